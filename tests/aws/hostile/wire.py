"""The way of a request: it is told apart, written down, struck by faults, and carried out by moto."""

import copy
import io
import json
import re
import socket
import threading
import time
from datetime import datetime, timezone
from urllib.parse import parse_qsl

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from faults import Faults, Refused, no_capacity, throttled

S3_BY_QUERY = (
    ("POST", "uploads", "CreateMultipartUpload"),
    ("PUT", "partNumber", "UploadPart"),
    ("POST", "uploadId", "CompleteMultipartUpload"),
    ("DELETE", "uploadId", "AbortMultipartUpload"),
    ("GET", "uploadId", "ListParts"),
    ("GET", "uploads", "ListMultipartUploads"),
    ("POST", "delete", "DeleteObjects"),
    ("GET", "location", "GetBucketLocation"),
    ("GET", "versioning", "GetBucketVersioning"),
    ("GET", "lifecycle", "GetLifecycleConfiguration"),
    ("GET", "encryption", "GetEncryptionConfiguration"),
    ("GET", "publicAccessBlock", "GetBucketPublicAccessBlock"),
    ("PUT", "tagging", "PutObjectTagging"),
    ("GET", "tagging", "GetObjectTagging"),
    ("GET", "attributes", "GetObjectAttributes"),
)
# What gives something new, by a token of whoever asks.
TOKENED = ("RunInstances", "CreateLaunchTemplate", "CreateLaunchTemplateVersion", "CreateFleet")


class Handler(MotoRequestHandler):
    disable_nagle_algorithm = True

    def log(self, *_):
        pass


def serve(wire):
    return make_server("127.0.0.1", 0, wire, threaded=True, request_handler=Handler)


class Wire:
    def __init__(self, nature, world):
        self.nature, self.world = nature, world
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.faults = Faults(nature.settings.seed)
        self.calls, self.tokens = [], {}
        self.writing = threading.Lock()
        self.began = time.monotonic()

    def __call__(self, environ, start_response):
        ends = environ.get("wsgi.input_terminated")
        body = environ["wsgi.input"].read(-1 if ends else int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        environ["wsgi.input_terminated"] = True
        environ["CONTENT_LENGTH"] = str(len(body))
        if environ["PATH_INFO"] == "/_control":
            return self.control(json.loads(body), start_response)
        if environ["PATH_INFO"].startswith("/_served/"):
            return self.served(environ["PATH_INFO"].split("/"), start_response)
        call = self.written_down(environ, body)
        if call["service"] == "s3" and environ.get("CONTENT_TYPE", "").startswith("application/x-www-form"):
            # So curl calls what it sends; moto would take it for parameters, and store nothing.
            environ["CONTENT_TYPE"] = "binary/octet-stream"
        began = time.monotonic()
        try:
            status, headers, answer = self.answered(environ, call)
        except Refused as refused:
            status, headers, answer = shaped(refused, call, environ["REQUEST_METHOD"])
            call["error"] = refused.code
        except Gone:
            call["status"] = 0
            call["took"] = round(time.monotonic() - began, 4)
            hang_up(environ)
            raise ConnectionAbortedError("hung up on purpose") from None
        call["status"] = int(status.split(" ")[0])
        if call["status"] >= 400 and "error" not in call:
            call["error"] = code_of(answer)
        call["took"] = round(time.monotonic() - began, 4)
        return whole(start_response, status, headers, answer)

    def written_down(self, environ, body):
        service, operation, params, presigned = told_apart(environ, body)
        call = {
            "service": service,
            "operation": operation,
            "params": params,
            "presigned": presigned,
            "at": round(time.monotonic() - self.began, 4),
        }
        with self.writing:
            self.calls.append(call)
            call["n"] = len(self.calls)
        return call

    def answered(self, environ, call):
        if call["presigned"]:
            not_expired(environ)
        striking = self.faults.striking(call)
        for rule in striking:
            fault = rule.given["fault"]
            call["fault"] = fault
            if fault == "throttle":
                raise throttled(call["service"])
            if fault == "capacity":
                raise no_capacity(call["params"])
            if fault == "error":
                given = rule.given
                raise Refused(given["code"], given.get("message", "so it is"), given.get("status", 400))
            if fault == "dropped":
                raise Gone
            if fault == "slow":
                time.sleep(rule.given["seconds"])
            if fault == "hold":
                self.faults.hold(rule, call)
                if rule.given.get("drop"):
                    raise Gone
        done = self.carried_out(environ, call)
        for rule in striking:
            if rule.given["fault"] == "block":
                self.faults.hold(rule, call)
            if rule.given["fault"] == "lost":
                raise Gone
        return done

    def carried_out(self, environ, call):
        with self.nature.lock:
            self.nature.tick()
            params = call["params"]
            token = params.get("ClientToken") if call["operation"] in TOKENED else None
            asked = {key: value for key, value in params.items() if key != "ClientToken"}
            key = (call["operation"], token)
            known = self.tokens.get(key) if token else None
            if known and known[0] != asked:
                raise Refused(
                    "IdempotentParameterMismatch",
                    "The request uses the same client token as a previous, but non-identical request.",
                )
            if known and call["operation"] != "RunInstances":
                return known[1]
            own = self.nature.own(call)
            if own is not None:
                return answer_of(own, call)
            self.nature.before(call, known[2] if known else None)
            done = self.ask_moto(environ)
            made = self.nature.after(call, done[2])
            if token and not known and done[0].startswith("2"):
                self.tokens[key] = (asked, done, made)
            self.nature.tick()
            return done

    def ask_moto(self, environ):
        said = {}

        def start(status, headers, *_):
            said["status"], said["headers"] = status, headers

        answer = self.moto(environ, start)
        try:
            whole = b"".join(answer)
        finally:
            if hasattr(answer, "close"):
                answer.close()
        # S3 calls it so, and whoever reads it looks.
        if b"<ListPartsResponse" in whole[:200]:
            whole = whole.replace(b"ListPartsResponse", b"ListPartsResult")
            headers = [(name, value) for name, value in said["headers"] if name.lower() != "content-length"]
            said["headers"] = [*headers, ("Content-Length", str(len(whole)))]
        return said["status"], said["headers"], whole

    def served(self, path, start_response):
        """What a load balancer answers for /_served/TARGET_GROUP/FILE: that file of the service, from
        the image of one of the healthy targets, each in its turn."""
        with self.nature.lock:
            self.nature.tick()
            name, file = path[2], "/".join(path[3:])
            image = self.nature.targets.serving(name)
            text = self.nature.machines.file_of(image, file) if image else None
        status = "200 OK" if text is not None else "503 Service Unavailable"
        return whole(start_response, status, [("Content-Type", "text/plain")], (text or "").encode())

    def control(self, asked, start_response):
        act = asked.pop("do")
        try:
            said = getattr(self, "do_" + act)(**asked)
            status = "200 OK"
        except Exception as error:  # whoever wrote the test reads it
            said, status = {"error": f"{type(error).__name__}: {error}"}, "500 Internal Server Error"
        answer = json.dumps(said, default=str).encode()
        return whole(start_response, status, [("Content-Type", "application/json")], answer)

    def do_rule(self, rule):
        return {"rule": self.faults.add(rule)}

    def do_clear(self, rule=None):
        self.faults.remove(rule)

    def do_held(self, rule, patience):
        return copy.copy(self.faults.held(rule, patience))

    def do_calls(self, since=0):
        with self.writing:
            return [dict(call) for call in self.calls[since:]]

    def do_state(self):
        with self.nature.lock:
            self.nature.tick()
            return self.nature.state()

    def do_sick(self, **which):
        with self.nature.lock:
            self.nature.sick.append(which)

    def do_well(self):
        with self.nature.lock:
            self.nature.sick.clear()

    def do_set(self, **options):
        with self.nature.lock:
            for name, value in options.items():
                getattr(self.nature.settings, name)
                setattr(self.nature.settings, name, value)

    def do_fail_images(self, name):
        with self.nature.lock:
            self.nature.failing.append(name)

    def do_kill(self, instance):
        """The machine ends by itself."""
        with self.nature.lock:
            self.nature.ends_by_itself(instance)

    def do_world(self, **more):
        with self.nature.lock:
            return self.world.add(**more)


class Gone(Exception):
    """No answer is given."""


def whole(start_response, status, headers, answer):
    """With a length: connections stay open."""
    if not any(name.lower() == "content-length" for name, _ in headers):
        headers = [*headers, ("Content-Length", str(len(answer)))]
    start_response(status, headers)
    return [answer]


def answer_of(own, call):
    """As the service answers."""
    number = ("x-amzn-requestid", f"hostile-{call['n']}")
    if isinstance(own, str):
        return "200 OK", [("Content-Type", "text/xml"), number], own.encode()
    return "200 OK", [("Content-Type", "application/x-amz-json-1.1"), number], json.dumps(own).encode()


def hang_up(environ):
    with_socket = environ.get("werkzeug.socket")
    if with_socket:
        try:
            with_socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def told_apart(environ, body):
    """Service, operation, parameters, and whether the request is presigned."""
    query = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    names = dict(query)
    auth = environ.get("HTTP_AUTHORIZATION", "")
    scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", auth)
    service = scope.group(1) if scope else "s3"
    target = environ.get("HTTP_X_AMZ_TARGET")
    if target:
        params = json.loads(body or b"{}")
        return service, target.split(".")[-1], params, False
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded") and b"Action=" in body:
        params = dict(parse_qsl(body.decode(), keep_blank_values=True))
        operation = params.pop("Action")
        params.pop("Version", None)
        return service, operation, params, False
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].lstrip("/")
    bucket, _, key = path.partition("/")
    presigned = "X-Amz-Signature" in names
    params = {"Bucket": bucket, "Key": key, "Bytes": len(body)}
    params |= {name: value for name, value in query if not name.lower().startswith("x-amz-")}
    operation = next((op for m, name, op in S3_BY_QUERY if m == method and name in names), None)
    if operation is None and method == "GET" and not key:
        operation = "ListObjectsV2" if bucket else "ListBuckets"
    if operation is None and not key:
        operation = {"HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}.get(method)
    if operation is None and method == "PUT" and environ.get("HTTP_X_AMZ_COPY_SOURCE"):
        operation = "CopyObject"
    plain = {"GET": "GetObject", "PUT": "PutObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
    return service, operation or plain.get(method, method), params, presigned


def not_expired(environ):
    names = dict(parse_qsl(environ.get("QUERY_STRING", "")))
    if "X-Amz-Date" not in names:
        return
    signed = datetime.strptime(names["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    age = (datetime.now(timezone.utc) - signed).total_seconds()
    if age > float(names.get("X-Amz-Expires", "0")):
        raise Refused("AccessDenied", "Request has expired", 403)


def shaped(refused, call, method):
    """An error as the service says it."""
    service, status = call["service"], f"{refused.status} Refused"
    code, message = refused.code, refused.message.replace("&", "&amp;").replace("<", "&lt;")
    number = f"hostile-{call['n']}"
    xml = [("Content-Type", "text/xml"), ("x-amzn-requestid", number), ("x-amz-request-id", number)]
    if service == "ec2":
        text = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            f"<RequestID>{number}</RequestID></Response>"
        )
    elif service in ("elasticloadbalancing", "autoscaling", "sts", "iam"):
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>"
            f"</Error><RequestId>{number}</RequestId></ErrorResponse>"
        )
    elif service == "s3":
        text = "" if method == "HEAD" else (
            f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{number}</RequestId>"
            f"<HostId>hostile</HostId></Error>"
        )
    else:
        body = json.dumps({"__type": code, "message": refused.message}).encode()
        return status, [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-requestid", number)], body
    return status, xml, b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode() if text else b""


def code_of(answer):
    found = re.search(rb"<Code>([^<]+)</Code>|\"__type\":\s*\"([^\"]+)\"", answer)
    return (found.group(1) or found.group(2)).decode() if found else None
