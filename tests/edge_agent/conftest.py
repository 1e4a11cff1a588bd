"""Fixtures of the agent's tests."""

import datetime as dt
import ipaddress
import ssl
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from onnx import TensorProto, helper, numpy_helper

from edge_agent.contract import signing
from edge_agent.contract.bundle import read_bundle, write_bundle
from edge_agent.contract.calibration import identity
from edge_agent.forecaster import Model, golden_run


@pytest.fixture(scope="session")
def tiny_bundle():
    """A signed bundle that forecasts `energy` of any house; see tests/fixtures/make_tiny_bundle.py."""
    return Path(__file__).parents[1] / "fixtures" / "tiny"


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory):
    """A private key; its public half lies beside it."""
    path = tmp_path_factory.mktemp("keys") / "workstation.key"
    signing.create_key(path)
    return path


@pytest.fixture(scope="session")
def trusted(signing_key):
    """What an agent trusts whose owner has accepted `signing_key`."""
    return signing.trusted_keys((signing_key.parent,))


def echo(plan, factor, *, before=(), constants=None):
    """A graph that answers with its anchor times `factor`, or times the output "factor" of the nodes in `before`."""
    shapes = plan.input_shapes() | {"future": ("horizon", len(plan.future)), "anchor": ("horizon", 10)}
    nodes = [
        *before,
        helper.make_node("Mul", ["anchor", "factor"], ["scaled"]),
        helper.make_node("Split", ["scaled", "parts"], ["quantiles", "last"], axis=2),
        helper.make_node("Squeeze", ["last", "axis"], ["mean"]),
    ]
    known = {"parts": np.array([9, 1]), "axis": np.array([2]), **(constants or {}), **({} if before else {"factor": np.float32(factor)})}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *s]) for n, s in (("quantiles", ("horizon", 9)), ("mean", ("horizon",)))]
    graph = helper.make_graph(nodes, "echo", inputs, outputs, [numpy_helper.from_array(np.asarray(v), n) for n, v in known.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.fixture
def make_bundle(tmp_path, tiny_bundle, signing_key):
    """Writes bundles that forecast the climatology times `factor`: `make_bundle("a.tar", factor=1.1, created_at="…", before=hostile_nodes)`."""

    def make(name, *, factor=1.0, sign_key=signing_key, before=(), constants=None, has_golden=True, **changes):
        bundle = read_bundle(tiny_bundle, allow_unsigned=True)
        model = echo(bundle.manifest.plan, factor, before=before, constants=constants)
        bundle = replace(
            bundle, model=model, manifest=replace(bundle.manifest, calibration=identity(bundle.manifest.plan.quantile_levels), **changes)
        )
        quantiles, mean = bundle.golden.quantiles, bundle.golden.mean
        if has_golden:  # else it is too dangerous to run
            quantiles, mean = golden_run(Model(bundle), bundle.golden)
        golden = replace(bundle.golden, quantiles=quantiles, mean=mean)
        write_bundle(tmp_path / name, bundle.manifest, model=model, golden=golden, sign_key=sign_key)
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate of 127.0.0.1 and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - dt.timedelta(1), now + dt.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "loopback.pem"
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem + built.public_bytes(serialization.Encoding.PEM))
    return path


class Server(ThreadingHTTPServer):
    """Serves `content`; `cuts` are the sizes after which the next answers are cut off."""

    daemon_threads = True

    def __init__(self, certificate):
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.content, self.tag, self.cuts, self.ranges, self.redirect, self.status, self.length = b"", '"one"', [], [], None, None, True
        self.takes_ranges, self.range_reply = True, None
        self.url = f"https://127.0.0.1:{self.server_port}/energy.tar"

    def handle_error(self, request, client_address):
        """A client that hangs up is what is tested."""


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if server.redirect or server.status:
            self.send_response(302 if server.redirect else server.status)
            self.send_header("Location", server.redirect or "")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = 0
        if wanted and server.takes_ranges and self.headers.get("If-Range") == server.tag:
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if first >= len(server.content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", server.range_reply or f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        if server.tag:
            self.send_header("ETag", server.tag)
        if server.length:
            self.send_header("Content-Length", str(len(server.content) - first))
        self.end_headers()
        self.wfile.write(server.content[first : first + server.cuts.pop(0)] if server.cuts else server.content[first:])


@pytest.fixture
def https_server(certificate, monkeypatch):
    """An HTTPS server on loopback whose certificate is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(certificate) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
