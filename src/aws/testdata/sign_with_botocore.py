"""Prints requests signed by botocore, a JSON object a line, for sigv4_test.cc. Its key is SECRET of KEY_ID below."""
import json

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEY_ID = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def header_signed(name, method="POST", path="/", query="", body=b"{}", headers=None, service="apprunner", token=None):
    url = "http://127.0.0.1:4566" + path + ("?" + query if query else "")
    request = AWSRequest(method=method, url=url, data=body, headers={"Host": "127.0.0.1:4566", **(headers or {})})
    SigV4Auth(Credentials(KEY_ID, SECRET, token), service, "us-east-1").add_auth(request)
    emit(name, method, path, query, dict(request.headers.items()), body, service)


def presigned(name, expires=60, token=None):
    query = "Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest(method="GET", url="http://127.0.0.1:4566/?" + query, headers={"Host": "127.0.0.1:4566"})
    SigV4QueryAuth(Credentials(KEY_ID, SECRET, token), "sts", "us-east-1", expires=expires).add_auth(request)
    path, query = request.url.removeprefix("http://127.0.0.1:4566").split("?", 1)
    emit(name, "GET", path, query, dict(request.headers.items()), b"", "sts")


def emit(name, method, path, query, headers, body, service):
    print(json.dumps({"name": name, "method": method, "path": path, "query": query, "headers": headers,
                      "body": body.decode(), "service": service}))


header_signed("json", headers={"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AppRunner.ListServices"})
header_signed("empty body", body=b"")
header_signed("form", body=b"Action=GetCallerIdentity&Version=2011-06-15", service="sts",
              headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"})
header_signed("spaces in headers", headers={"X-Amz-Meta-A": "  a   b  ", "X-Amz-Meta-B": "\"x   y\""})
header_signed("query", method="GET", body=b"", query="b=2&a=1&a=0&empty=&tilde=~&slash=%2F&space=%20&unicode=%C3%A9")
header_signed("a path", method="GET", body=b"", path="/a/b-c_d.e~f/")
header_signed("an encoded path", method="GET", body=b"", path="/a%20b/%C3%A9/x%3Ay")
header_signed("dots and slashes in the path", method="GET", body=b"", path="/a/./b//c/../d")
header_signed("session token", token="a/session+token==")
header_signed("a body beyond ASCII", body="{\"a\": \"é\"}".encode())
presigned("presigned")
presigned("presigned with a session token", token="a/session+token==")
presigned("presigned for a week", expires=604800)
