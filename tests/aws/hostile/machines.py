"""Builders that really run: each has a directory as its disk, and its user data is a process in it.

`WINDLASS_ROOT` and the working directory are that disk. First in PATH stand stubs for what would change
the machine that the tests run on; they write down how they were called. What lies on the disk when an
image is made is the image's content, and the disk of a machine that starts from it.
"""

import os
import shutil
import signal
import subprocess
import uuid

STUBS = (
    "shutdown", "poweroff", "halt", "reboot", "apt-get", "apt", "dnf", "yum", "systemctl", "cloud-init",
    "useradd", "userdel", "usermod", "groupadd", "journalctl", "update-initramfs", "passwd", "mount", "umount",
)
SHUTS_DOWN = ("shutdown", "poweroff", "halt")


class Machine:
    def __init__(self, directory):
        self.directory = directory
        self.root = os.path.join(directory, "root")
        # Where a script that was told of another root looks for the machine's own commands.
        self.stubs = os.path.join(self.root, "usr/bin")
        self.processes, self.exit = [], None

    def path(self, name):
        return os.path.join(self.directory, name)

    def read(self, name):
        try:
            with open(self.path(name), errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""


class Machines:
    def __init__(self, directory):
        self.directory = directory
        self.machines, self.commands = {}, {}

    def disk(self, image):
        return os.path.join(self.directory, "images", image)

    def boot(self, id, image, user_data):
        """Starts it, or starts it again with what its disk holds: user data runs once."""
        if id in self.machines:
            return
        machine = self.machines[id] = Machine(os.path.join(self.directory, id))
        if os.path.isdir(self.disk(image)):
            shutil.copytree(self.disk(image), machine.root, symlinks=True)
        # That is no part of a disk.
        shutil.rmtree(os.path.join(machine.root, "run"), ignore_errors=True)
        for place in ("run", "opt", "etc", "tmp", "var/log", "usr/bin"):
            os.makedirs(os.path.join(machine.root, place), exist_ok=True)
        for name in STUBS:
            stub = os.path.join(machine.stubs, name)
            # In a while is not now.
            now = f"case \"$*\" in *+[1-9]* | -c*) ;; *) touch '{machine.path('shut-down')}' ;; esac\n"
            then = now if name in SHUTS_DOWN else ""
            with open(stub, "w") as file:
                file.write(f"#!/bin/sh\necho \"{name} $*\" >> '{machine.path('calls')}'\n{then}")
            os.chmod(stub, 0o755)
        if user_data is not None:
            script = machine.path("user-data")
            with open(script, "w") as file:
                file.write(user_data)
            os.chmod(script, 0o755)
            if user_data.startswith("#!"):
                self.run(machine, [script], machine.path("console"))

    def run(self, machine, command, to, stderr=subprocess.STDOUT):
        env = {
            "PATH": machine.stubs + os.pathsep + os.environ.get("PATH", "/usr/bin:/bin"),
            "WINDLASS_ROOT": machine.root,
            "HOME": os.path.join(machine.root, "root"),
            "LANG": "C.UTF-8",
        }
        os.makedirs(env["HOME"], exist_ok=True)
        with open(to, "ab") as out:
            process = subprocess.Popen(
                command, cwd=machine.root, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=stderr,
                start_new_session=True,
            )
        machine.processes.append(process)
        return process

    def stop(self, id):
        machine = self.machines.get(id)
        for process in machine.processes if machine else []:
            # The group may live on when its first process does not.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
            code = process.wait()
            machine.exit = code if machine.exit is None else machine.exit
        if machine:
            machine.processes.clear()

    def end(self):
        for id in list(self.machines):
            self.stop(id)

    def was_shut_down(self, id):
        machine = self.machines.get(id)
        marker = machine.path("shut-down") if machine else ""
        if machine and os.path.exists(marker):
            os.remove(marker)
            return True
        return False

    def console(self, id):
        machine = self.machines.get(id)
        return machine.read("console")[-65536:] if machine else ""

    def snapshot(self, id, image):
        machine = self.machines.get(id)
        if machine:
            shutil.copytree(machine.root, self.disk(image), symlinks=True, dirs_exist_ok=True)

    def content(self, image):
        return self.disk(image) if os.path.isdir(self.disk(image)) else None

    def image_has(self, image, path):
        return os.path.exists(os.path.join(self.disk(image), path))

    def file_of(self, image, name):
        """A file of the service that the image has, whatever that is called."""
        services = os.path.join(self.disk(image), "opt")
        for service in sorted(os.listdir(services)) if os.path.isdir(services) else []:
            path = os.path.join(services, service, name)
            if os.path.isfile(path):
                with open(path) as file:
                    return file.read()
        return None

    def state(self):
        return [
            {
                "instance": id,
                "directory": machine.root,
                "running": [p.pid for p in machine.processes if p.poll() is None],
                "exit": next((p.poll() for p in machine.processes), machine.exit),
                "calls": machine.read("calls").splitlines(),
                "console": machine.read("console")[-20000:],
            }
            for id, machine in self.machines.items()
        ]

    # -- SSM Run Command

    def ssm(self, operation, params, running):
        from faults import Refused

        if operation == "DescribeInstanceInformation":
            wanted = [v for f in params.get("Filters", []) for v in f.get("Values", [])]
            wanted += [v for f in params.get("InstanceInformationFilterList", []) for v in f.get("valueSet", [])]
            there = [id for id in running if id in self.machines and (not wanted or id in wanted)]
            return {"InstanceInformationList": [{"InstanceId": id, "PingStatus": "Online"} for id in there]}
        if operation == "SendCommand":
            ids = params["InstanceIds"]
            if any(id not in running or id not in self.machines for id in ids):
                raise Refused("InvalidInstanceId", "Instances not in a valid state for account")
            command = str(uuid.uuid4())
            for id in ids:
                machine = self.machines[id]
                out, script = machine.path(command), machine.path(command + ".sh")
                with open(script, "w") as file:
                    file.write("\n".join(params["Parameters"]["commands"]) + "\n")
                with open(out + ".err", "ab") as err:
                    self.commands[command, id] = self.run(machine, ["/bin/sh", script], out, err)
            about = {"CommandId": command, "Status": "Pending", "InstanceIds": ids}
            return {"Command": {**about, "DocumentName": params.get("DocumentName")}}
        if operation == "GetCommandInvocation":
            command, id = params["CommandId"], params["InstanceId"]
            process = self.commands.get((command, id))
            if process is None:
                raise Refused("InvocationDoesNotExist", "The command does not exist on that instance")
            machine, code = self.machines[id], process.poll()
            status = "InProgress" if code is None else "Success" if code == 0 else "Failed"
            if code is not None and code < 0:
                status = "Cancelled"
            return {
                "CommandId": command,
                "InstanceId": id,
                "Status": status,
                "StatusDetails": status,
                "ResponseCode": -1 if code is None else code,
                # SSM keeps only the beginning of what is said.
                "StandardOutputContent": machine.read(command)[:24000],
                "StandardErrorContent": machine.read(command + ".err")[:8000],
            }
        if operation == "CancelCommand":
            for (command, id), process in self.commands.items():
                if command == params["CommandId"] and process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            return {}
        if operation == "ListCommands":
            return {"Commands": [{"CommandId": command, "InstanceIds": [id]} for command, id in self.commands]}
        return None
