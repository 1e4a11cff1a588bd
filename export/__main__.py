"""Command line: hearthcast-export RUN --out BUNDLE."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from edge_agent.contract import signing
from edge_agent.contract.errors import HearthcastError


def arguments() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="hearthcast-export", description="Turn a trained run into a verified, signed bundle for the gateway's agent."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder that hearthcast-train fit --out wrote")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="BUNDLE", help="folder to write, or NAME.tar for one file; what is there is replaced"
    )
    parser.add_argument("--name", help="the model's name (default: the run's)")
    parser.add_argument("--even-if-worse", action="store_true", help="export a model that scored worse than the rolling climatology or its base")
    parser.add_argument("--int8", action="store_true", help="ship an int8 graph if it loses less than 0.1 %% and is faster on this machine")
    signature = parser.add_mutually_exclusive_group()
    signature.add_argument("--sign-key", type=Path, metavar="KEY", help="private key (default: this user's, made on first use)")
    signature.add_argument("--unsigned", action="store_true", help="do not sign: agents will want --allow-unsigned")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    given = arguments().parse_args(argv)
    for name, value in {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
    }.items():
        os.environ[name] = value  # before TensorFlow is imported: quiet, plain float32 arithmetic, no GPU
    from rich.console import Console

    from export.assemble import export_run
    from export.report import table

    console = Console()
    try:
        sign_key = None if given.unsigned else given.sign_key or signing.workstation_key()
        with console.status("converting and comparing with Keras"):
            report = export_run(given.run, given.out, sign_key=sign_key, int8=given.int8, name=given.name, even_if_worse=given.even_if_worse)
        console.print(table(report))
    except HearthcastError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
