"""Exit with 0 if a server can listen on the given port of 127.0.0.1; else print why not."""

from __future__ import annotations

import socket
import sys


def main() -> int:
    """Try to listen, as gunicorn will."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # As servers do: connections of an earlier run that are fading away do not count.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", int(sys.argv[1])))
            listener.listen()
        except PermissionError:
            print("only root may listen there")
            return 1
        except OverflowError:
            print("ports end at 65535")
            return 1
        except OSError:
            print("another program listens there")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
