"""Keeps a local cluster on disk: its id and ports in `cluster.json`, a formatted data folder for every node.

Invariant: `node-N/data` exists only formatted (it is made aside and renamed), so that an interrupted start is
simply started again.
"""

import json
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from localkafka.settings import HOST, NodePorts, as_text, server_properties
from stream.errors import BrokerUnavailable, UserError

_FORMAT_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What stays the same over restarts."""

    cluster_id: str
    ports: dict[int, NodePorts]
    host: str = HOST
    """Address that clients use, which may change when it is started again elsewhere."""


def new_cluster_id() -> str:
    """A random id in Kafka's form: 16 bytes in URL-safe base64."""
    # A leading dash would be read as an option by StorageTool.
    return "r" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def load(data_dir: Path) -> Cluster | None:
    """The cluster this folder holds, None where it holds none."""
    path = data_dir / "cluster.json"
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text())
        ports = {int(node): NodePorts(**ports) for node, ports in stored["ports"].items()}
        return Cluster(cluster_id=stored["cluster_id"], ports=ports, host=stored.get("host", HOST))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: cannot be read ({error!r}), expected what LocalKafka wrote; delete it: brokers find their data "
            "without it, on other ports"
        ) from error


def save(data_dir: Path, cluster: Cluster) -> None:
    """Write it whole or not at all."""
    data_dir.mkdir(parents=True, exist_ok=True)
    aside = data_dir / "cluster.json.new"
    aside.write_text(json.dumps(asdict(cluster), indent=2))
    aside.replace(data_dir / "cluster.json")


def prepare_node(folder: Path, node: int, cluster: Cluster, java: list[str], own: Mapping[str, str]) -> None:
    """Write the node's properties, `own` in place of ours, and format its data folder if it has none."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if not data.exists():
        _format(folder, node, cluster, java, own)
    (folder / "server.properties").write_text(
        as_text({**server_properties(node, cluster.ports, data, cluster.host), **own})
    )


def _format(folder: Path, node: int, cluster: Cluster, java: list[str], own: Mapping[str, str]) -> None:
    aside = folder / "data.new"
    shutil.rmtree(aside, ignore_errors=True)
    properties = folder / "format.properties"
    properties.write_text(as_text({**server_properties(node, cluster.ports, aside, cluster.host), **own}))
    tool = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster.cluster_id, "--config", str(properties)]
    done = subprocess.run(
        [*java, *tool],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_FORMAT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BrokerUnavailable(f"formatting {aside} failed: {(done.stderr + done.stdout).strip()[-2000:]}")
    properties.unlink()
    aside.rename(folder / "data")
