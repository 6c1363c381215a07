import os

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def hello():
    return os.environ["GREETING"] + "\n"


@app.get("/env")
def env():
    return jsonify(PORT=os.environ["PORT"], PASSWORD=os.environ.get("PASSWORD", ""))
