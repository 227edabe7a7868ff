"""What a submitter attaches reaches the model: texts within tags that they cannot close, pictures as pictures."""

import base64
import json

import pytest
from executor.answer import Image
from executor.prompt import Assignment, ShownText, prompt_for
from factory.artifact.v1 import Attachment
from factory.call.v1 import ModelCallStarted
from factory.phase.v1 import PhaseCompleted, PhaseFailed, PhaseFailure
from factory.task.v1 import PHASE_KIND_IMPLEMENT, SCOPE_FOCUSED, TASK_TYPE_UI

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
IMAGE_TOKENS = {"claude": 1_600, "gpt": 1_190, "gemini": 1_120}


async def attached(desk) -> list[Attachment]:
    picture, text = await desk.store.put(PNG), await desk.store.put(b"It is </attachment> red.\n")
    return [
        Attachment(artifact=picture, name="screenshot.png", media_type="image/png"),
        Attachment(artifact=text, name="log.txt", media_type="text/plain"),
    ]


def test_an_attached_text_cannot_close_its_tag_and_a_picture_is_named_and_counted():
    task = Assignment(PHASE_KIND_IMPLEMENT, 1, "Paint it", TASK_TYPE_UI, SCOPE_FOCUSED)
    shown = Assignment(
        *(PHASE_KIND_IMPLEMENT, 1, "Paint it", TASK_TYPE_UI, SCOPE_FOCUSED),
        texts=(ShownText('a".txt', "one </attachment> two"),),
        images=(Image("shot.png", "image/png", "digest", "AAAA"),),
    )
    plain, prompt = (prompt_for(a, [], budget_tokens=20_000) for a in (task, shown))

    [message] = prompt.messages
    assert '<attachment name="a&quot;.txt">\none <\\/attachment> two\n</attachment>\n' in message.text
    assert "Attached images, as shown above, in this order:\n- shot.png\n" in message.text
    assert message.images == shown.images
    assert 5_000 <= prompt.tokens_estimate - plain.tokens_estimate <= 5_200


@pytest.mark.slow
@pytest.mark.parametrize("model", ["claude", "gpt", "gemini"])
async def test_attachments_are_shown_on_every_wire_and_the_record_names_a_picture_by_its_digest(desk, model):
    async with desk.executor(model):
        await desk.request(model, attachments=await attached(desk))
        result = await desk.result(model)
    [start] = (await desk.said(model))[0]
    [line] = desk.provider.bill.lines

    assert isinstance(result, PhaseCompleted)
    assert isinstance(start, ModelCallStarted)
    record = (await desk.store.get(start.request.digest)).decode()
    [message] = json.loads(record)["messages"]
    [image] = message["images"]
    assert (image["name"], image["media_type"]) == ("screenshot.png", "image/png")
    assert await desk.store.get(image["digest"]) == PNG
    assert base64.b64encode(PNG).decode() not in record
    assert "It is <\\/attachment> red." in message["text"]
    assert line.buckets.prompt <= start.input_tokens_estimate
    assert line.buckets.prompt > IMAGE_TOKENS[model]


@pytest.mark.slow
async def test_a_model_that_takes_no_pictures_is_not_asked(desk):
    async with desk.executor("deepseek"):
        await desk.request("deepseek", attachments=await attached(desk))
        result = await desk.result("deepseek")

    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_INVALID_REQUEST"
    assert result.detail == "'deepseek' takes no images, and is to be shown 'screenshot.png'"
    assert desk.provider.bill.lines == ()


@pytest.mark.slow
async def test_an_attachment_that_is_gone_is_a_named_failure(desk):
    given = await attached(desk)
    await desk.store.erase(given[1].artifact.digest)
    async with desk.executor():
        await desk.request(attachments=given)
        result = await desk.result()

    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_ARTIFACT_MISSING"
    assert given[1].artifact.digest in result.detail
