"""Runs a model where it is fastest now, here or at an endpoint, and tells of each switch.

python examples/follow_link.py digits.onnx http://192.0.2.1:8000 [REQUESTS]
"""

import sys

import edge_sdk
from edge_sdk.engines.samples import made_up_feeds


def main(model: str, endpoint: str, requests: str = "100") -> None:
    with edge_sdk.load(model, endpoints=[endpoint]) as session:
        print(session.plan.reason)
        feeds = made_up_feeds(session.inputs)
        for _ in range(int(requests)):
            session.run(feeds)
        for event in session.report().events:
            print(event)
        print(session.split_figures())


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except edge_sdk.EdgeError as error:
        sys.exit(f"follow_link: {error}")
