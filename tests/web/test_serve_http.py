"""The interface of serve, by plain HTTP."""

import re
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from program import PROGRAM, ask, png, predict

PICTURE = png()


def head(length, model="vit"):
    """The headers of a request for an answer."""
    return (
        f"POST /v1/predict?model={model} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def connected(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def rest(connection):
    """All that comes until the server ends the connection."""
    came = b""
    try:
        while part := connection.recv(65536):
            came += part
    except ConnectionResetError:
        pass
    return came


def status(came):
    return int(came.split(b" ", 2)[1])


class Neighbour:
    """Somebody who asks all the while, and must always be answered soon."""

    def __init__(self, server):
        self.server, self.ended = server, threading.Event()
        self.statuses, self.slowest = [], 0.0
        self.thread = threading.Thread(target=self.ask)

    def ask(self):
        while not self.ended.wait(0.1):
            began = time.monotonic()
            self.statuses.append(predict(self.server, PICTURE).status)
            self.slowest = max(self.slowest, time.monotonic() - began)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def was_answered(self):
        return len(self.statuses) >= 5 and set(self.statuses) == {200} and self.slowest < 5


# ---- Answers and refusals ----


def test_a_picture_is_answered_by_the_model_that_is_named(served):
    for model in ("vit", "sl-vit"):
        answer = predict(served, PICTURE, model + "&top=3", content_type="image/png")
        assert answer.status == 200 and answer.json["model"] == model
        shares = [each["probability"] for each in answer.json["likeliest"]]
        assert shares == sorted(shares, reverse=True) and len(shares) == 3


def test_without_a_model_it_asks_which_where_there_are_two(served):
    answer = ask(served, "POST", "/v1/predict", PICTURE)
    assert (answer.status, answer.code) == (400, "model")


def test_without_a_model_the_only_one_answers(start, models):
    server = start("serve", models["sl-vit"])
    assert ask(server, "POST", "/v1/predict", PICTURE).json["model"] == "sl-vit"


def test_a_model_that_it_has_not_is_not_found(served):
    answer = predict(served, PICTURE, "resnet")
    assert (answer.status, answer.code) == (404, "model")


@pytest.mark.parametrize("top", ["0", "-1", "many"])
def test_a_top_that_is_no_count_is_refused(served, top):
    answer = predict(served, PICTURE, f"vit&top={top}")
    assert answer.status == 400 and answer.json["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain"])
def test_text_is_no_picture(served, path):
    for kind in ("text/plain", "image/png", "application/octet-stream"):
        answer = ask(served, "POST", f"{path}?model=vit", b"I am text.", content_type=kind)
        assert (answer.status, answer.code) == (415, "not_a_picture")


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain"])
def test_half_a_picture_cannot_be_read(served, path):
    answer = ask(served, "POST", f"{path}?model=vit", PICTURE[: len(PICTURE) // 2])
    assert (answer.status, answer.code) == (422, "unreadable")


def test_other_methods_and_other_paths_are_refused(served):
    answer = ask(served, "GET", "/v1/predict?model=vit")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST") and answer.json
    assert ask(served, "POST", "/v1/models", b"").status == 405
    answer = ask(served, "GET", "/v1/nothing")
    assert (answer.status, answer.code) == (404, "not_found")
    assert ask(served, "GET", "/v1/examples/99999.png").status == 404


def test_a_body_that_is_too_large_is_refused_before_it_is_read(start, models):
    server = start("serve", models["vit"], "--max-body", 1)
    with connected(server) as connection:
        connection.sendall(head((1 << 20) + 1))
        assert status(rest(connection)) == 413
    # One that does not say its length is refused when it has become too long.
    with connected(server) as connection:
        connection.sendall(head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        part = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
        try:
            for _ in range(17):
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert status(rest(connection)) == 413
    assert predict(server, PICTURE).status == 200


def test_a_client_that_sends_all_of_a_body_that_is_too_large_hears_why(start, models):
    server = start("serve", models["vit"], "--max-body", 1)
    answer = predict(server, bytes(3 << 20))
    assert (answer.status, answer.code) == (413, "too_large")


# ---- Who may ask ----


def test_only_names_of_this_server_are_answered(served):
    for host in ("evil.example", f"evil.example:{served.port}", "192.0.2.1"):
        answer = ask(served, "GET", "/v1/models", host=host)
        assert (answer.status, answer.code) == (403, "host")
    for host in ("localhost", f"127.0.0.1:{served.port}", f"[::1]:{served.port}"):
        assert ask(served, "GET", "/v1/models", host=host).status == 200


def test_pages_of_other_sites_are_refused(served):
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{served.port + 1}"):
        answer = predict(served, PICTURE, origin=origin)
        assert (answer.status, answer.code) == (403, "origin")
    assert predict(served, PICTURE, origin=f"http://127.0.0.1:{served.port}").status == 200


def test_a_token_is_asked_for_and_kept_in_a_cookie(start, models):
    server = start("serve", models["vit"], "--token", "open sesame")
    for path in ("/", "/v1/models", "/metrics", "/openapi.json", "/?token=simsim"):
        answer = ask(server, "GET", path)
        assert (answer.status, answer.code) == (401, "token")
    assert predict(server, PICTURE).status == 401
    assert predict(server, PICTURE, authorization="Bearer simsim").status == 401
    assert predict(server, PICTURE, authorization="Bearer open sesame").status == 200
    assert ask(server, "GET", "/healthz").status == 200


def test_a_browser_signs_in_by_its_address(start, visit, models):
    server = start("serve", models["vit"], "--token", "sesame")
    answer = ask(server, "GET", "/?token=sesame")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "sesame" not in cookie
    assert ask(server, "GET", "/", cookie=cookie.split(";")[0]).status == 200
    page = visit(f"{server.url}?token=sesame")
    page.locator("#examples button").first.click()
    page.locator("#cards .first").wait_for()
    assert page.url == server.url


def test_a_token_may_have_any_letters(start, models):
    server = start("serve", models["vit"], "--token", "a b+ü&")
    assert ask(server, "GET", "/?token=a%20b%2B%C3%BC%26").status == 303


def test_it_listens_to_other_machines_only_where_that_is_meant(models):
    command = [PROGRAM, "serve", models["vit"], "--listen", "0.0.0.0:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "--allow-remote" in done.stderr and done.stdout == ""


# ---- Many, and slow ones ----


def test_those_who_come_too_many_are_told_to_come_again(start, models):
    server = start("serve", models["vit"], "--queue", 1)
    expected = predict(server, PICTURE).json["likeliest"]
    # One who has not sent all of a picture holds the only place.
    with connected(server) as slow:
        slow.sendall(head(len(PICTURE)) + PICTURE[:100])
        time.sleep(0.5)
        answer = predict(server, PICTURE)
        assert (answer.status, answer.code) == (429, "busy")
        assert int(answer.headers["Retry-After"]) >= 1
    time.sleep(0.5)
    with ThreadPoolExecutor(32) as many:
        answers = list(many.map(lambda _: predict(server, PICTURE), range(200)))
    assert {answer.status for answer in answers} <= {200, 429}
    met = [answer.json["likeliest"] for answer in answers if answer.status == 200]
    assert met and all(each == expected for each in met)
    assert all(answer.headers["Retry-After"] for answer in answers if answer.status == 429)


def test_those_who_come_together_have_the_answers_they_would_have_alone(served):
    bodies = [png(32, seed) for seed in range(24)]
    alone = [likeliest(served, body) for body in bodies]
    with ThreadPoolExecutor(24) as many:
        together = list(many.map(lambda body: likeliest(served, body), bodies))
    # Through a model together, they are not added up in the same order.
    assert together == [pytest.approx(each, abs=1e-5) for each in alone]


def likeliest(server, body):
    """By class, its probability."""
    return {each["class"]: each["probability"] for each in predict(server, body, "sl-vit&top=10").json["likeliest"]}


def test_a_client_that_stops_amid_its_headers_is_cut_off(served):
    with connected(served) as half, connected(served) as silent, Neighbour(served) as neighbour:
        half.sendall(head(len(PICTURE))[:40])
        began = time.monotonic()
        rest(half)
        rest(silent)
        assert 1 < time.monotonic() - began < 15
    assert neighbour.was_answered()


def test_a_client_that_sends_a_byte_a_second_is_cut_off(start, models):
    server = start("serve", models["vit"], "--max-wait", 2)
    with connected(server) as slow, Neighbour(server) as neighbour:
        began = time.monotonic()
        slow.sendall(head(len(PICTURE)))
        slow.settimeout(1)
        came, sent = b"", 0
        while not came and time.monotonic() - began < 10:
            slow.sendall(PICTURE[sent : sent + 1])
            sent += 1
            try:
                came = slow.recv(65536)
            except TimeoutError:
                pass
        assert status(came) == 408 and b"too_slow" in came
        assert 1.5 < time.monotonic() - began < 5
        # And it is not listened to any longer.
        slow.settimeout(15)
        rest(slow)
    assert neighbour.was_answered()


def test_a_client_that_leaves_amid_its_picture_does_no_harm(served):
    for _ in range(20):
        with connected(served) as leaving:
            leaving.sendall(head(len(PICTURE)) + PICTURE[:50])
    assert predict(served, PICTURE).status == 200


def test_a_signal_ends_it_after_a_request_in_flight_is_answered(start, models):
    server = start("serve", models["vit"])
    with connected(server) as connection:
        connection.sendall(head(len(PICTURE)) + PICTURE[:100])
        time.sleep(0.5)
        server.terminate()
        time.sleep(0.5)
        assert server.process.poll() is None
        connection.sendall(PICTURE[100:])
        came = rest(connection)
        assert status(came) == 200 and b"likeliest" in came
    assert server.process.wait(10) == 0
    with pytest.raises(ConnectionRefusedError):
        connected(server)


# ---- What it says of itself ----


def test_it_says_that_it_lives(served):
    answer = ask(served, "GET", "/healthz")
    assert (answer.status, answer.body) == (200, b"ok\n")


def counted(server, path, status):
    """How many requests /metrics has counted."""
    text = ask(server, "GET", "/metrics").body.decode()
    found = re.search(rf'^smallvit_requests_total{{path="{path}",status="{status}"}} (\d+)$', text, re.MULTILINE)
    return int(found[1]) if found else 0


def test_it_counts_requests_for_prometheus(start, models):
    server = start("serve", models["vit"])
    for _ in range(3):
        predict(server, PICTURE)
    predict(server, b"text")
    assert counted(server, "/v1/predict", 200) == 3
    assert counted(server, "/v1/predict", 415) == 1
    answer = ask(server, "GET", "/metrics")
    assert "text" in answer.headers["Content-Type"]
    lines = answer.body.decode().splitlines()
    sample = re.compile(r'[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [-+.\deEInf]+')
    assert all(line.startswith("# ") or sample.fullmatch(line) for line in lines)
    assert {"# TYPE smallvit_requests counter", "# EOF", "smallvit_images_total 3"} <= set(lines)


def test_its_description_names_every_route(served):
    described = ask(served, "GET", "/openapi.json").json
    assert described["openapi"].startswith("3.")
    methods = {path: [*operations] for path, operations in described["paths"].items()}
    assert methods == {
        "/v1/models": ["get"],
        "/v1/examples": ["get"],
        "/v1/examples/{file}": ["get"],
        "/v1/predict": ["post"],
        "/v1/explain": ["post"],
        "/healthz": ["get"],
        "/metrics": ["get"],
    }
