"""What a model sees under each template."""

import pytest

from luffy.errors import InputError
from luffy.evaluation.prompts import TEMPLATES, Renderer
from miniature.tokenizer import build_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
THINKING = CHATML.replace("assistant\\n'", "assistant\\n<think>\\n'")
MESSAGES = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is $1+1$ {really}?"})


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = build_tokenizer()
    tokenizer.chat_template = CHATML
    return tokenizer


def text(tokenizer, template: str, **options) -> str:
    return Renderer(tokenizer, template, **options).render(MESSAGES).text


def test_own_template_without_and_with_the_datas_system_message(tokenizer):
    alone = "<|im_start|>user\nWhat is $1+1$ {really}?<|im_end|>\n<|im_start|>assistant\n"
    assert text(tokenizer, "own") == alone
    assert text(tokenizer, "own", remove_system=False) == "<|im_start|>system\nBe brief.<|im_end|>\n" + alone


def test_published_templates_letter_by_letter(tokenizer):
    assert text(tokenizer, "qwen") == (
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>user\nWhat is $1+1$ {really}?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text(tokenizer, "simplerl") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhat is $1+1$ {really}?\n"
        "Please reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text(tokenizer, "prime_sft") == (
        "<|im_start|>user\nWhat is $1+1$ {really}?\n\nPresent the answer in LaTex format: \\boxed{Your answer}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert text(tokenizer, "none") == text(tokenizer, "no") == "What is $1+1$ {really}?"


def test_prime_asks_for_latex_or_code(tokenizer):
    question = "User: What is $1+1$ {really}?\n\n"
    for name, ask in (("prime", "Present the answer in LaTex format: \\boxed{Your answer}"), ("prime_code", "```python")):
        rendered = text(tokenizer, name)
        assert rendered.startswith("A conversation between User and Assistant.") and rendered.endswith(". Assistant:")
        assert rendered.index(question) < rendered.index(ask)


def test_every_template_names_its_source():
    assert set(TEMPLATES) == {"own", "qwen", "simplerl", "prime", "prime_sft", "prime_code", "none", "no"}
    assert all(template.source for template in TEMPLATES.values())


def test_a_jinja_file(tokenizer, tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("{{ messages | length }}|{{ question }}|{% if add_generation_prompt %}A:{% endif %}")
    assert text(tokenizer, str(path)) == "1|What is $1+1$ {really}?|A:"
    path.write_text("{{ messages[7].content }} {% if %}")
    with pytest.raises(InputError, match="TemplateSyntaxError"):
        text(tokenizer, str(path))
    path.write_text("{{ raise_exception('no system message, please') }}")
    with pytest.raises(InputError, match="no system message, please"):
        text(tokenizer, str(path))
    with pytest.raises(InputError, match="please; where it has no system role, --remove_system True leaves the message out"):
        text(tokenizer, str(path), remove_system=False)
    with pytest.raises(InputError, match="please$"):
        text(tokenizer, str(path), remove_system=True)


def test_an_unknown_template_lists_the_known_ones(tokenizer):
    with pytest.raises(InputError, match="neither one of own, qwen, .* nor a file"):
        Renderer(tokenizer, "qwem")


def test_a_missing_chat_template_says_what_to_do():
    bare = build_tokenizer()
    bare.chat_template = None
    with pytest.raises(InputError, match="no chat template; give the prompt that the model was trained with"):
        Renderer(bare, "own")
    assert Renderer(bare, "qwen").render(MESSAGES).text.startswith("<|im_start|>system")


def test_a_thought_that_the_template_opens_is_seen(tokenizer):
    assert not Renderer(tokenizer, "own").render(MESSAGES).opens_thought
    thinking = build_tokenizer()
    thinking.chat_template = THINKING
    assert Renderer(thinking, "own").render(MESSAGES).opens_thought


def test_tokens_are_those_of_the_text_with_one_bos(tokenizer):
    prompt = Renderer(tokenizer, "own").render(MESSAGES)
    assert tokenizer.decode(prompt.token_ids) == prompt.text
    assert Renderer(tokenizer, "qwen").stop_token_ids == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert Renderer(tokenizer, "own").stop_token_ids == []


def test_a_prompt_without_a_user_is_an_error(tokenizer):
    with pytest.raises(InputError, match="no message of role 'user'"):
        Renderer(tokenizer, "own").render(({"role": "system", "content": "x"},))
