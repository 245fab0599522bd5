"""Helm's own engine: one call a line on stdin, {"chart", "op": "render" | "lint", "name", "values"}; one answer a line on stdout."""

import json
import sys

import helm_python as helm


def answer(call):
    try:
        if call["op"] == "lint":
            return {"ok": helm.lint(call["chart"], call["values"], strict=True)}
        with helm.Chart.load(call["chart"]) as chart:
            chart.validate_schema(call["values"])
            return {"ok": chart.render(call["values"], name=call["name"], namespace="orrery", is_install=True)}
    except helm.HelmError as error:
        return {"error": str(error)}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
