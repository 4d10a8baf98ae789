-- The index of one run: what its topics hold, in the order and shape in which the page asks for it.
-- Everything is made again from the topics where the schema, or the run behind the name, is another.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The next offset to read; written with what was read, so that the two cannot part.
CREATE TABLE offsets (
  topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

CREATE TABLE prompts (
  no INTEGER PRIMARY KEY, prompt_id TEXT NOT NULL, purpose TEXT NOT NULL, text TEXT NOT NULL, answer TEXT NOT NULL,
  grader TEXT NOT NULL, task TEXT NOT NULL, level TEXT NOT NULL,
  -- Kept by the triggers below.
  num_groups INTEGER NOT NULL DEFAULT 0, num_rollouts INTEGER NOT NULL DEFAULT 0, num_graded INTEGER NOT NULL DEFAULT 0,
  reward_sum REAL NOT NULL DEFAULT 0, believed REAL, last_s REAL NOT NULL DEFAULT 0,
  UNIQUE (prompt_id, purpose)
);

-- no: a hash of the group's id, so that what speaks of a group needs no look at this table, and may come before it.
-- forecast: E[p] under the belief in the job. size: rollouts that it is known to have, fewer than num_rollouts in mode sequential.
CREATE TABLE groups (
  no INTEGER PRIMARY KEY, group_id TEXT NOT NULL UNIQUE, prompt INTEGER NOT NULL REFERENCES prompts, train INTEGER NOT NULL,
  size INTEGER NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, min_policy_version INTEGER NOT NULL,
  created_s REAL NOT NULL, temperature REAL NOT NULL, max_tokens INTEGER NOT NULL,
  mode TEXT NOT NULL, success_rate REAL, num_observed REAL, value REAL, price REAL, cost REAL, a REAL, b REAL,
  forecast REAL
);
CREATE INDEX groups_of_prompt ON groups (prompt, created_s);

CREATE TABLE rollouts (
  no INTEGER PRIMARY KEY, group_no INTEGER NOT NULL, rollout_index INTEGER NOT NULL,
  train INTEGER NOT NULL, outcome TEXT NOT NULL, graded INTEGER NOT NULL, reward REAL NOT NULL, forecast REAL,
  num_tokens INTEGER NOT NULL, min_version INTEGER NOT NULL, max_version INTEGER NOT NULL, logprob REAL,
  finish_reason TEXT NOT NULL, producer TEXT NOT NULL, grader TEXT NOT NULL, reason TEXT NOT NULL,
  found_by TEXT NOT NULL, answer TEXT NOT NULL, rule TEXT NOT NULL,
  queued_s REAL NOT NULL, generated_s REAL NOT NULL, graded_s REAL NOT NULL,
  sampled_at_s REAL NOT NULL, created_s REAL NOT NULL,
  UNIQUE (group_no, rollout_index)
);

-- Apart, so that counting rollouts does not read what they say.
CREATE TABLE completions (rollout INTEGER PRIMARY KEY REFERENCES rollouts, packed BLOB NOT NULL);

CREATE TABLE updates (
  no INTEGER PRIMARY KEY, version INTEGER NOT NULL UNIQUE, parent INTEGER NOT NULL, step INTEGER NOT NULL,
  final INTEGER NOT NULL, created_s REAL NOT NULL, num_groups INTEGER NOT NULL, num_rollouts INTEGER NOT NULL,
  reward REAL, ratio_samples REAL, ratio_prompts REAL, num_effective_samples INTEGER NOT NULL, num_graded INTEGER NOT NULL,
  num_effective_prompts INTEGER NOT NULL, num_graded_prompts INTEGER NOT NULL,
  staleness_min REAL, staleness_mean REAL, staleness_max REAL, endings TEXT NOT NULL, metrics TEXT NOT NULL
);

-- How a group ended: once for each update that says so, of which at most one is in the lineage that survives.
CREATE TABLE ends (
  group_no INTEGER, version INTEGER, ending TEXT NOT NULL, staleness INTEGER NOT NULL,
  PRIMARY KEY (group_no, version)
) WITHOUT ROWID;

CREATE TABLE evaluations (
  no INTEGER PRIMARY KEY, name TEXT NOT NULL, policy_version INTEGER NOT NULL, step INTEGER NOT NULL,
  accuracy REAL NOT NULL, num_prompts INTEGER NOT NULL, temperature REAL NOT NULL, final INTEGER NOT NULL,
  created_s REAL NOT NULL, metrics TEXT NOT NULL, UNIQUE (name, policy_version)
);

-- One of each worker and stretch of time, the newest of it.
CREATE TABLE heartbeats (
  worker TEXT, stretch INTEGER, created_s REAL NOT NULL, pid INTEGER NOT NULL, host TEXT NOT NULL, state TEXT NOT NULL,
  metrics TEXT NOT NULL, PRIMARY KEY (worker, stretch)
) WITHOUT ROWID;

CREATE TABLE letters (
  no INTEGER PRIMARY KEY, role TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, record INTEGER NOT NULL,
  error TEXT NOT NULL, created_s REAL NOT NULL
);

CREATE TRIGGER group_is_new AFTER INSERT ON groups BEGIN
  UPDATE prompts SET num_groups = num_groups + 1, last_s = max(last_s, NEW.created_s),
    -- Partitions come in any order.
    believed = CASE WHEN NEW.created_s < last_s THEN believed
      ELSE coalesce(NEW.forecast, CASE WHEN NEW.success_rate >= 0 THEN NEW.success_rate END, believed) END
  WHERE no = NEW.prompt;
END;

CREATE TRIGGER rollout_is_new AFTER INSERT ON rollouts BEGIN
  UPDATE prompts SET num_rollouts = num_rollouts + 1, num_graded = num_graded + NEW.graded,
    reward_sum = reward_sum + NEW.graded * NEW.reward
  WHERE no = (SELECT prompt FROM groups WHERE no = NEW.group_no);
END;
