"""Modules put off, in an interpreter of their own."""

import subprocess
import sys


def output(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_a_module_is_loaded_when_something_of_it_is_asked_for():
    code = """
import sys
from edge_agent.lazily import put_off
put_off("urllib.request")
import urllib.request
print("http.client" in sys.modules, urllib.request.Request.__module__, "http.client" in sys.modules)
from urllib.request import urlopen
print(sys.modules["urllib.request"].urlopen is urlopen, hasattr(urllib.request, "no such thing"))
"""
    assert output(code) == ["False", "urllib.request", "True", "True", "False"]


def test_a_module_that_is_there_stays():
    code = """
import sys
import urllib.request as real
from edge_agent.lazily import put_off
put_off("urllib.request")
print(sys.modules["urllib.request"] is real)
"""
    assert output(code) == ["True"]


def test_paho_does_not_load_what_is_put_off():
    code = """
import sys
from edge_agent.lazily import put_off
put_off("urllib.request")
import edge_agent.mqtt
print("http.client" in sys.modules, "email" in sys.modules)
"""
    assert output(code) == ["False", "False"]
