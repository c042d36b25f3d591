"""gunicorn's settings, derived from Dimple's own."""

import gc
import importlib
import os
import signal
import ssl
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from app.backend.shared_state import set_backend as _set_backend
from app.backend.supervisor import BackendProcess as _BackendProcess
from app.engines.ray.client import proxies_of as _cluster_proxies
from app.errors import DimpleError, SettingError
from app.handlers.environment import SERVERS_THREADS as _SERVERS_THREADS
from app.security.authorization import check_exposed_management as _check_management
from app.server.addresses import bind as _bind
from app.server.addresses import check_free as _check_free
from app.server.arbiter import ZeroDowntimeArbiter as _Arbiter
from app.server.certificates import server_context as _server_context
from app.server.daemon import ReadyNotifier
from app.server.daemon import remove_pid as _remove_pid
from app.server.daemon import write_pid as _write_pid
from app.server.host_metrics import report_host as _report_host
from app.server.status import Greeting as _Greeting
from app.settings import VERSION as _VERSION
from app.settings import read_settings
from app.telemetry.tracing import trace_endpoint as _trace_endpoint
from app.utils.malloc import trim_when_idle as _tidy_when_idle
from app.utils.malloc import tune_malloc as _keep_heaps
from app.utils.openvino_runtime import import_openvino as _import_openvino
from app.utils.process import die_with_parent as _end_with_parent
from app.utils.system import cpu_count, default_worker_count

try:
    _settings = read_settings()
    _trace_endpoint(_settings)
except SettingError as error:
    sys.exit(str(error))

wsgi_app = "wsgi:app"
chdir = str(Path(__file__).parent)
bind = [_bind(_settings.host, _settings.port)]
if _settings.management_port != _settings.port:
    bind.append(_bind(_settings.management_host, _settings.management_port))
elif _settings.management_host != _settings.host:  # a shared port is for SageMaker's containers, not for accidents
    sys.exit(
        f"DIMPLE_PORT and DIMPLE_MANAGEMENT_PORT are both {_settings.port}: everybody who may predict could register "
        f"models, and run code. If that is meant, set DIMPLE_MANAGEMENT_HOST={_settings.host}, too."
    )
try:
    _check_management(_settings)
    _cluster_proxies(_settings)
except DimpleError as error:
    sys.exit(str(error))
workers = _settings.workers or default_worker_count()
worker_class = "app.server.worker.Worker"
# A request that waits for its model holds a thread. Beyond the queue, 8 threads are for other requests.
threads = _settings.threads or min(_settings.job_queue_size + 2 * cpu_count() + 8, 1024)
worker_connections = threads + 1000  # the surplus is for idle keep-alive connections
keepalive = 15
limit_request_line = _settings.max_request_line
limit_request_fields = _settings.max_headers
limit_request_field_size = _settings.max_header_bytes
# app/web/middleware.py trusts the proxies of the settings; gunicorn would trust this machine
forwarded_allow_ips = ""
timeout = _settings.timeout
graceful_timeout = max(30, _settings.unregister_timeout)
loglevel = _settings.log_level
logger_class = "app.server.gunicorn_logger.Logger"
accesslog = "-" if _settings.access_log else None
control_socket_disable = True  # the default is a file in the user's home

if bool(_settings.certificate_file) != bool(_settings.private_key_file):
    sys.exit("HTTPS takes both DIMPLE_CERTIFICATE_FILE and DIMPLE_PRIVATE_KEY_FILE; only one of them is set.")
if _settings.certificate_file and _settings.private_key_file:
    certfile, keyfile = str(_settings.certificate_file), str(_settings.private_key_file)
    try:
        _tls, _weakness = _server_context(_settings.certificate_file, _settings.private_key_file)
    except DimpleError as error:
        sys.exit(str(error))
    if _weakness:
        print(f"WARNING - {_weakness}", file=sys.stderr)

    def ssl_context(config: object, default_ssl_context_factory: object) -> ssl.SSLContext:
        """Return one context for all connections; gunicorn would read the files again for each connection."""
        return _tls


# Workers share the cores: by default each would start as many compute threads as there are cores.
if "OMP_NUM_THREADS" not in os.environ:
    os.environ["OMP_NUM_THREADS"] = os.environ[_SERVERS_THREADS] = str(max(1, cpu_count() // workers))

# nohup starts a program with SIGHUP ignored; gunicorn would handle the signal, and reload when its user logs out. The
# leader of a session of its own, as `dimple serve` starts it, gets no SIGHUP from a terminal.
_under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and os.getsid(0) != os.getpid()
_readiness = ReadyNotifier(os.environ)
_pid_file = _settings.instance_dir / "server.pid"


def when_ready(server: object) -> None:
    """Log the start, and keep ignoring SIGHUP if the server was started under nohup."""
    server.log.info("Dimple %s is starting as process %d", _VERSION, os.getpid())
    if _under_nohup:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def on_starting(server: object) -> None:
    """Prepare the server, once for all processes. Restore unregistered models of the settings. Stop with make, even if
    make is killed or its terminal is closed (on Linux only; elsewhere nothing is lost)."""
    if not isinstance(server, _Arbiter):
        if not {"LISTEN_FDS", "GUNICORN_FD"} & os.environ.keys():  # inherited from the system or an earlier server
            _check_ports()
        _Arbiter(server.app).run()  # does not return; gunicorn's own arbiter has done nothing yet
    _keep_heaps()
    if server.cfg.pidfile != str(_pid_file):  # so that status and stop find every server
        _write_pid(_pid_file)
    _start_backend(server)
    _import_libraries()
    if "MAKELEVEL" in os.environ and "GUNICORN_PID" not in os.environ:  # a server's successor outlives make
        _end_with_parent()
    if _settings.load_models.upper() not in ("", "ALL", "NONE"):
        from app.backend.sources import (
            restore_unregistered,  # imports the workers' modules, for which most starts need not wait
        )

        restore_unregistered(_settings)


def _import_libraries() -> None:
    """Import the workers' libraries before the workers are forked: it takes a third of a second, and their memory is
    shared. Only on Linux: numpy on macOS loads system libraries that a fork may not use."""
    if sys.platform != "linux":
        return
    for name in ("PIL.Image", "fastjsonschema", "flask", "http.client", "numpy", "prometheus_client", "psutil"):
        importlib.import_module(name)
    _import_openvino()


def _check_ports() -> None:
    """Exit with a one-line message if a port is busy; gunicorn would retry for five seconds, and print fifteen
    lines."""
    try:
        _check_free(_settings.host, _settings.port, "DIMPLE_PORT")
        if len(bind) > 1:
            _check_free(_settings.management_host, _settings.management_port, "DIMPLE_MANAGEMENT_PORT")
    except DimpleError as error:
        sys.exit(str(error))


def on_exit(server: object) -> None:
    """Remove the pid file that this module wrote."""
    _remove_pid(_pid_file)


def on_reload(server: object) -> None:
    """Start a backend process for the new workers."""
    _start_backend(server)


def _start_backend(server: object) -> None:
    """Start the process with the registry, the queues, slow networks and handler workers, on Linux only. On other
    systems each worker is its own backend."""
    if sys.platform != "linux":
        server.set_backend(None)
        return
    backend = _BackendProcess(server.log, timeout)
    server.set_backend(backend)
    _set_backend(backend.address, backend.state)


def post_fork(server: object, worker: object) -> None:
    """Detach a forked worker from the master's backend process."""
    server.detach_backend()


def post_worker_init(worker: object) -> None:
    """Finish the start of a worker whose models are loaded."""
    gc.collect()
    gc.freeze()  # permanent objects: the collector would scan all of them again and again
    _tidy_when_idle(lambda: worker.nr)
    if _settings.server_metrics_log:
        _report_host(_settings.instance_dir / "host-metrics.lock", _settings.metric_interval)
    from app.telemetry.history import record_history  # not before the metrics are shared

    record_history(_settings.instance_dir / "history.ring")
    if _readiness.is_first():
        _announce(worker)


def _announce(worker: object) -> None:
    """Print once the server's address and its models: in a box on a terminal, as a log line elsewhere."""
    problems = [entry.problem for entry in worker.wsgi.extensions["dimple"].registry.entries()]
    failed = sum(map(bool, problems))
    greeting = _Greeting(_settings, len(problems) - failed, failed, "Ctrl-C")
    if sys.stderr.isatty():
        print(greeting.box(), file=sys.stderr, flush=True)
    else:
        worker.log.info(greeting.line())
    if _settings.log_style == "mms" and _settings.log_console:
        print("Model server started.", flush=True)
