"""What the page's server answers, and what it refuses."""

import json
import urllib.error
import urllib.request

import pytest

from replay.watch.plots import VIEWS, as_json
from replay.watch.server import Cache, is_ours, refusal


def get(address, path, method="GET", **headers):
    """Status, headers and body of an answer."""
    request = urllib.request.Request(address + path, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def ask(address, path):
    status, _, body = get(address, path)
    assert status == 200, body
    return json.loads(body)


def test_the_page_and_its_files_come_with_a_strict_policy(page):
    for path in ("/", "/watch.css", "/app.js", "/dom.js", "/rollouts.js", "/plots.js", "/theme.js", "/plotly.js"):
        status, headers, body = get(page, path)
        assert status == 200 and body, path
        policy = headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy and "unsafe-eval" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    _, _, body = get(page, "/")
    assert b"http:" not in body and b"https:" not in body  # nothing from outside


def test_the_state_tells_of_the_run(page):
    (run,) = ask(page, "/api/state")["runs"]
    assert (run["run"], run["state"], run["finished"]) == ("made", "live", True)
    assert run["tiles"]["num_rollouts"] == 288
    assert run["tiles"]["num_groups"] == run["tiles"]["num_ended"] == 36
    assert [worker["worker"] for worker in run["workers"]] == []  # its only heartbeat has no time
    assert run["letters"] == 1


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_has_its_figures(page, view):
    found = ask(page, f"/api/plots/{view}")
    assert len(found) == len(VIEWS[view]) + (view == "time")
    assert any(figure["data"] for figure in found)


def test_a_prompt_is_found_by_id_text_and_band(page):
    assert ask(page, "/api/prompts?q=p3")["total"] == 1
    assert ask(page, "/api/prompts?q=what+%26")["total"] == 6
    assert ask(page, "/api/prompts?q=what+middle")["total"] == 2
    assert ask(page, "/api/prompts?q=100%25")["total"] == 0  # no wildcard
    bands = {band: ask(page, f"/api/prompts?band={band}")["total"] for band in ask(page, "/api/state")["bands"]}
    assert sum(bands.values()) == 6 and bands["unseen"] == 0


def test_orders_are_what_they_say(page):
    def rates(order):
        prompts = ask(page, f"/api/prompts?order={order}")["prompts"]
        return [prompt["reward_sum"] / prompt["num_graded"] for prompt in prompts]

    assert rates("hardest") == sorted(rates("hardest"))
    assert rates("easiest") == sorted(rates("easiest"), reverse=True)


def test_a_prompt_has_its_history(page):
    no = ask(page, "/api/prompts?q=p1")["prompts"][0]["no"]
    found = ask(page, f"/api/prompt?no={no}")
    assert found["prompt"]["prompt_id"] == "p1"
    assert [group["round"] for group in found["groups"]] == [5, 4, 3, 2, 1, 0]
    group = found["groups"][1]
    assert (group["mode"], len(group["rollouts"])) == ("uniform", 8)
    assert group["end"]["ending"] in ("trained", "zero_variance") and group["end"]["step"] == 5
    advantages = [rollout["advantage"] for rollout in group["rollouts"]]
    assert sum(advantages) == pytest.approx(0.0, abs=1e-4)
    assert sum(version["num"] for version in found["versions"]) == 48


def test_the_answers_of_a_version_are_its_own(page):
    no = ask(page, "/api/prompts?q=p1")["prompts"][0]["no"]
    for version in ask(page, f"/api/prompt?no={no}")["versions"]:
        answers = ask(page, f"/api/answers?no={no}&version={version['version']}")["rollouts"]
        assert len(answers) == version["num"]
        assert {rollout["max_version"] for rollout in answers} == {version["version"]}


def test_a_rollout_has_a_logprob_and_a_version_for_each_token(page):
    rollout = ask(page, "/api/rollout?no=9")
    assert len(rollout["token_ids"]) == len(rollout["logprobs"]) == len(rollout["versions"]) == rollout["num_tokens"]
    assert set(rollout["logprobs"]) == {-0.5}
    assert (rollout["tokenizer"], rollout["pieces"]) == ("none", None)


def test_dead_letters_are_shown(page):
    (letter,) = ask(page, "/api/letters")["letters"]
    assert (letter["role"], letter["record"]) == ("learner-0", 9)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/plots/nothing", "there is no view 'nothing'"),
        ("/api/prompt?no=99999", "there is no prompt number 99999"),
        ("/api/rollout?no=99999", "there is no rollout number 99999"),
        ("/api/prompt?no=-1", "no is '-1'; want a whole number"),
        ("/api/prompts?order=x%27--", "order is"),
        ("/api/prompts?band=9", "band is '9'"),
        ("/api/prompts?run=other", "run 'other' is not watched here"),
    ],
)
def test_a_wrong_question_is_answered_in_words(page, path, words):
    status, _, body = get(page, path)
    assert status == 404
    assert words in json.loads(body)["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_it_only_reads(page, method):
    assert get(page, "/api/state", method)[0] == 405


def test_a_name_that_is_not_ours_is_refused(page):
    assert get(page, "/api/state", Host="evil.example")[0] == 421
    assert get(page, "/api/state", Host="localhost:8600")[0] == 200
    assert get(page, "/api/state", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})[0] == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8600", "[::1]:8600", "[::1]", "10.0.0.7"])
def test_names_of_this_machine(host):
    assert is_ours(host)


@pytest.mark.parametrize("host", ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil", "[::1", "1.2.3.4.5"])
def test_names_of_others(host):
    assert not is_ours(host)
    assert refusal("GET", {b"host": host.encode()}) is not None


def test_a_request_without_a_host_is_refused():
    assert refusal("GET", {}) is not None


def test_json_has_no_number_that_json_has_not():
    assert (
        as_json({"a": [float("nan"), float("inf"), 1.5], "b": (None, "x")}) == b'{"a":[null,null,1.5],"b":[null,"x"]}'
    )


def test_an_answer_is_kept_until_something_changes(until):
    cache, made = Cache(), []

    def make():
        made.append(1)
        return str(len(made)).encode()

    assert [cache.get(("k",), 1, make) for _ in range(3)] == [b"1"] * 3
    until(lambda: cache.get(("k",), 2, make) == b"2")
    assert cache.get(("other",), 2, make) == b"3"
