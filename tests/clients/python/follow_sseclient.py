"""Prints every event of a stream as a line of JSON: python follow_sseclient.py http://127.0.0.1:3000/orders"""

import json
import sys
import time

import httpx
from sseclient import SSEClient

STREAM = sys.argv[1]
# A line arrives every 15 s at the latest (http.keepalive), so longer silence is a dead connection.
TIMEOUT = httpx.Timeout(10, read=45)


def handle(event, data, id):
    print(json.dumps({"event": event, "data": data, "id": id}), flush=True)


last_id = ""
retry = 2.0  # seconds, until the stream says
with httpx.Client(timeout=TIMEOUT) as client:
    while True:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        try:
            with client.stream("GET", STREAM, headers=headers) as response:
                response.raise_for_status()
                for event in SSEClient(response.iter_bytes()).events():
                    if event.retry is not None:
                        retry = int(event.retry) / 1000
                    id = event.id or last_id  # None where the event itself has no id
                    handle(event.event, event.data, id)
                    last_id = id
            print("the stream ended", file=sys.stderr)
        except httpx.HTTPError as error:
            print("reconnecting:", error, file=sys.stderr)
        time.sleep(retry)
