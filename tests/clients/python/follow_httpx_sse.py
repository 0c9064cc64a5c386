"""Prints every event of a stream as a line of JSON: python follow_httpx_sse.py http://127.0.0.1:3000/orders"""

import json
import sys
import time

import httpx
from httpx_sse import SSEError, connect_sse

STREAM = sys.argv[1]
# A line arrives every 15 s at the latest (http.keepalive), so longer silence is a dead connection.
TIMEOUT = httpx.Timeout(10, read=45)


def handle(event, data, id):
    print(json.dumps({"event": event, "data": data, "id": id}), flush=True)


last_id = ""
retry = 2.0  # seconds, until the stream says
with httpx.Client(timeout=TIMEOUT) as client:
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with connect_sse(client, "GET", STREAM, headers=headers) as source:
                source.response.raise_for_status()
                for event in source.iter_sse():
                    if event.retry is not None:
                        retry = event.retry / 1000
                    handle(event.event, event.data, event.id)
                    last_id = event.id
            print("the stream ended", file=sys.stderr)
        except (httpx.HTTPError, SSEError) as error:
            print("reconnecting:", error, file=sys.stderr)
        time.sleep(retry)
