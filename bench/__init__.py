"""What flightserver costs, measured beside a named peer.

`python -m bench` runs everything; `python -m bench throughput pages` runs some; `--quick` takes a tenth of the data and
fewer repeats. What is measured through the wire has servers as processes of their own on free loopback ports, and
clients in further processes; where engines are compared (merging, caching), all are asked in one process. The
contestants take their turn within every repeat, so that what else the machine does meets all of them. A figure is the
median of the repeats, and what counts is the ratio to the peer that is named: absolute numbers belong to one machine.
"""
