"""A reward that is served: 1 where the completion has the answer anywhere in its text. `python serve_reward.py 8100`."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Reward(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_POST(self) -> None:
        """Lists of completions and of the problems' columns in, one number a completion out."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rewards = [float(answer in text) for text, answer in zip(asked["completions"], asked["answer"], strict=True)]
        body = json.dumps({"rewards": rewards}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Reward).serve_forever()
