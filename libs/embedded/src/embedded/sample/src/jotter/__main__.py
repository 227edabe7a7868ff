"""Serve the API: `python -m jotter`."""

from wsgiref.simple_server import make_server

from jotter.app import create_app
from jotter.store import Store

HOST, PORT = "127.0.0.1", 8000

with make_server(HOST, PORT, create_app(Store("jotter.db"))) as server:
    print(f"jotter on http://{HOST}:{PORT}")
    server.serve_forever()
