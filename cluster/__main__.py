"""Start a Ray cluster for Longreel Cluster on this machine, or let this machine join one.

    python -m longreel.cluster start                        # for this machine alone: bound to 127.0.0.1
    python -m longreel.cluster start --host 10.0.0.5        # for a network that you trust
    python -m longreel.cluster join 10.0.0.5:6379 -- --base-directory /data/comfyui
    python -m longreel.cluster token                        # the secret that every machine of a cluster must have

Run it with ComfyUI's Python, on the machine with ComfyUI's browser too. Where the pack lies in custom_nodes and was not
installed with pip, say `python -m custom_nodes.<folder>.cluster` in ComfyUI's folder; COMFYUI_PATH names another one.
What stands behind -- is what the main.py of this machine's workers is given. Each command stays until Ctrl-C, and hands
over to Ray's own (`ray start --block`), which schedules, watches and restarts.

Ray lets whoever reaches its ports and has its token run code on every machine of the cluster. Its traffic is not
encrypted. See docs/cluster.md before you give --host.
"""

import argparse
import json
import os
import sys
from pathlib import Path

LOOPBACK, PORT = "127.0.0.1", 6379


def main(arguments: list[str] | None = None) -> int:
    """Run the command, and return 1 with a line of text where it cannot be; Ray's own takes over otherwise."""
    given = sys.argv[1:] if arguments is None else arguments
    end = given.index("--") if "--" in given else len(given)
    options = _parser().parse_args(given[:end])
    try:
        command, variables = command_of(options, given[end + 1 :])
    except (ImportError, RuntimeError) as error:  # no ComfyUI, no Ray
        sys.stderr.write(f"longreel: {error}\n")
        return 1
    os.environ.update(variables)
    os.execv(command[0], command)
    return 0


def command_of(options: argparse.Namespace, comfyui_arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command of Ray and its variables. Raises ImportError without a ComfyUI, ClusterError without Ray."""
    from ..hosts.cluster.ray_library import (  # here: the hosts need a ComfyUI at once
        LOOPBACK_HOSTS,
        environment,
        import_ray,
        is_loopback,
    )
    from ..hosts.standalone import find_comfyui

    loopback = is_loopback(options.address) if options.command == "join" else options.host in LOOPBACK_HOSTS
    import_ray(loopback)
    ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
    if options.command == "token":
        return [*ray, "get-auth-token", "--generate"], environment(loopback)
    variables = {
        **environment(loopback),
        "LONGREEL_CLUSTER_COMFYUI": str(find_comfyui()),
        "LONGREEL_CLUSTER_ARGUMENTS": json.dumps(_absolute(comfyui_arguments)),
    }
    if options.command == "join":
        return [*ray, "start", "--block", "--disable-usage-stats", "--address", options.address], variables
    head = ["--head", "--port", str(options.port), "--include-dashboard=false"]
    bound = [] if loopback else ["--node-ip-address", options.host]
    return [*ray, "start", "--block", "--disable-usage-stats", *head, *bound], variables


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m longreel.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start a cluster with this machine in it")
    start.add_argument("--host", default=LOOPBACK, help="this machine's address; without, no other reaches it")
    start.add_argument("--port", type=int, default=PORT)
    join = commands.add_parser("join", help="let this machine join a cluster")
    join.add_argument("address", help="host:port of the machine that started it")
    token = commands.add_parser("token", help="print the cluster's secret, and make one where there is none")
    token.set_defaults(host=LOOPBACK)
    return parser


def _absolute(arguments: list[str]) -> list[str]:
    """Return arguments of main.py with the paths among them made absolute: workers start in a folder of their own."""
    return [str(Path(word).resolve()) if word[:1] != "-" and Path(word).exists() else word for word in arguments]


if __name__ == "__main__":
    sys.exit(main())
