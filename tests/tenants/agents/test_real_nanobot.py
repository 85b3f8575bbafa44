"""The real nanobot with the files, the command and the environment that its kind gives it.

Runs where ``nanobot`` (``nanobot-ai[api]``) is on the PATH. The demo agent plays its model.
"""

import asyncio
import json
import os
import signal
import subprocess
import time

import httpx
import pytest

from tenants.agents import agent_kind
from tenants.agents.base import ModelEndpoint
from tenants.runtimes.base import Placement
from tests.tenants.agents.samples import settings_for
from tests.tenants.agents.test_demo_agent import BODY, TOKEN, Running, free_port

KIND = agent_kind("nanobot")
pytestmark = [pytest.mark.slow, pytest.mark.agents]


def healthy(url):
    try:
        answer = httpx.get(url + KIND.health_path)
    except httpx.HTTPError:
        return False
    return KIND.healthy(answer.status_code, answer.content)


@pytest.fixture(scope="module")
def nanobot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nanobot")
    (folder / "config").mkdir()
    (folder / "data").mkdir()
    (folder / "model").mkdir()
    model = Running(folder / "model").wait()
    place = Placement("127.0.0.1", free_port(), folder / "config", folder / "data", in_container=False)
    endpoint = ModelEndpoint("custom", "some/model", model.url + "/v1", TOKEN)
    files = KIND.config_files(settings_for(KIND, name="A ${HOME} “Bot”", model=endpoint), place)
    (folder / "config" / "config.json").write_bytes(files["config.json"])
    environment = {**KIND.env(place), "PATH": os.environ["PATH"]}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(KIND.argv(place), env=environment, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{place.listen_port}"
    deadline = time.monotonic() + KIND.start_grace_s
    while not healthy(url):
        assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.2)
    yield url, folder
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    model.end()


def ask(url, body):
    call = KIND.chat_call(body, TOKEN)
    return httpx.post(url + call.path, headers=dict(call.headers), json=dict(call.body), timeout=60)


def test_it_answers_whole(nanobot):
    reply = KIND.chat_reply(BODY, ask(nanobot[0], BODY).content)
    assert "one two three" in reply["choices"][0]["message"]["content"]


def test_it_answers_as_a_stream(nanobot):
    answer = ask(nanobot[0], {**BODY, "stream": True, "user": "ada"})

    async def events():
        async def chunks():
            yield answer.content

        return b"".join([part async for part in KIND.chat_stream(BODY, chunks())])

    *chunks, done, end = asyncio.run(events()).decode().split("\n\n")
    texts = [json.loads(c.removeprefix("data: "))["choices"][0]["delta"].get("content", "") for c in chunks]
    assert "one two three" in "".join(texts)
    assert (done, end) == ("data: [DONE]", "")


def test_without_the_token_it_refuses(nanobot):
    assert httpx.post(nanobot[0] + "/v1/chat/completions", json=BODY).status_code == 401


def test_it_writes_nothing_beside_its_configuration(nanobot):
    assert [path.name for path in (nanobot[1] / "config").iterdir()] == ["config.json"]
