"""A git server on loopback: git http-backend behind Python's HTTP server. For reading alone."""
import base64
import http.server
import os
import pathlib
import subprocess
import threading

BACKEND = "/usr/lib/git-core/git-http-backend"
REQUEST_SECONDS_MAX = 60
IDENTITY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com",
            "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com"}


def git(folder, *arguments):
    done = subprocess.run(["git", "-C", str(folder), *arguments], env={**os.environ, **IDENTITY}, check=True,
                          capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder, message):
    """All that lies in the folder; answers the commit's id."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


class GitServer:
    """Serves the repositories below `root`; with `login` ("user:password") only to who has that."""

    def __init__(self, root, login=None):
        self.root = pathlib.Path(root)
        wanted = login and "Basic " + base64.b64encode(login.encode()).decode()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer()

            def do_POST(self):
                self.answer()

            def answer(self):
                if wanted and self.headers.get("Authorization") != wanted:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                path, _, query = self.path.partition("?")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                environment = {
                    "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(server.root), "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "REMOTE_ADDR": "127.0.0.1"}
                said = subprocess.run([BACKEND], input=body, env=environment, capture_output=True,
                                      timeout=REQUEST_SECONDS_MAX, check=False).stdout
                head, _, rest = said.partition(b"\r\n\r\n")
                status, headers = 200, []
                for line in head.decode().splitlines():
                    name, _, value = line.partition(": ")
                    if name == "Status":
                        status = int(value.split()[0])
                    else:
                        headers.append((name, value))
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                self.wfile.write(rest)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
