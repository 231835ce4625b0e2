"""An AWS that is as unkind as the real one, for one test.

    python tests/aws/hostile '{"region": "eu-central-1"}'

It is moto behind what moto leaves out (nature.py, groups.py), behind faults that a test asks for
(faults.py), with builders whose user data really runs (machines.py). Prints one line of JSON: the port
on 127.0.0.1 and the world that is there (world.py). Ends, with everything it started, when its standard
input does: so it also ends with a test that was killed.
"""

import json
import os
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


def main():
    options = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    os.environ["MOTO_ALLOW_NONEXISTENT_REGION"] = "false"
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    import lean

    lean.load()
    from machines import Machines
    from nature import Nature
    from settings import Settings
    from wire import Wire, serve
    from world import World

    settings = Settings(options)
    with tempfile.TemporaryDirectory(prefix="windlass-aws-", ignore_cleanup_errors=True) as directory:
        machines = Machines(directory)
        nature = Nature(settings, machines)
        world = World(nature)
        wire = Wire(nature, world)
        server = serve(wire)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        threading.Thread(target=nature.go_on, daemon=True).start()
        said = {"port": server.server_port, "directory": directory, "world": world.described()}
        print(json.dumps(said), flush=True)
        # Nobody writes; it ends when whoever holds the other end does.
        while os.read(0, 4096):
            pass
        nature.over = True
        machines.end()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
