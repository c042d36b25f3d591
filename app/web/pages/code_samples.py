"""Programs in several languages that send an image to a model."""

from __future__ import annotations

import json
import shlex


def code_samples(address: str, name: str, token: bool) -> dict[str, str]:
    """Return programs that send an image file and print the response, by language.

    :param address: URL of the model's predictions.
    :param name: name of the file.
    :param token: whether predictions require a token; the programs read it from the variable ``DIMPLE_TOKEN``.
    """
    return {
        "curl": _curl(address, name, token),
        "Python": _python(address, name, token),
        "JavaScript": _javascript(address, name, token),
    }


def _curl(address: str, name: str, token: bool) -> str:
    header = '-H "Authorization: Bearer $DIMPLE_TOKEN" ' if token else ""
    return f"curl {header}-F {shlex.quote('file=@' + _for_curl(name))} {shlex.quote(address)}"


def _for_curl(name: str) -> str:
    """Return a file's name for ``-F``, quoted because ``;`` and ``,`` have a meaning there."""
    if not set(name) & set(';,"'):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _python(address: str, name: str, token: bool) -> str:
    system, header = ("import os\n\n", f",\n{' ' * 8}{_PYTHON_TOKEN}") if token else ("", "")
    return f"""{system}import requests

with open({_text(name)}, "rb") as image:
    response = requests.post(
        {_text(address)},
        files={{"file": image}}{header},
    )
response.raise_for_status()
for item in response.json()["predictions"]:
    print(item["class"], item["probability"])
"""


_PYTHON_TOKEN = 'headers={"Authorization": f"Bearer {os.environ[\'DIMPLE_TOKEN\']}"}'


def _javascript(address: str, name: str, token: bool) -> str:
    header = "  headers: { Authorization: `Bearer ${process.env.DIMPLE_TOKEN}` },\n" if token else ""
    return f"""import {{ openAsBlob }} from "node:fs";

const form = new FormData();
form.set("file", await openAsBlob({_text(name)}), "image");
const response = await fetch({_text(address)}, {{
  method: "POST",
{header}  body: form,
}});
if (!response.ok) throw new Error(await response.text());
for (const item of (await response.json()).predictions) {{
  console.log(item.class, item.probability);
}}
"""


def _text(value: str) -> str:
    """Return a string literal that Python and JavaScript read alike."""
    return json.dumps(value)
