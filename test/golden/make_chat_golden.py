"""Writes chat_golden.json: chat templates as transformers renders and masks them, for test/data/chat-template.test.ts.

Run from the repository root: python test/golden/make_chat_golden.py   (needs the `transformers` package)
"""

import json
from pathlib import Path

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{{- bos_token }}\n{%- for message in messages %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}\n"
    "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"
)
# Drops the thoughts of all turns but the last, as Qwen3 and others do: earlier turns change as the conversation grows.
THINKING = (
    "{%- for message in messages %}\n"
    "  {%- set content = message.content %}\n"
    "  {%- if message.role == 'assistant' and '</think>' in content and not loop.last %}\n"
    "    {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n  {%- endif %}\n"
    "  {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
MARKED = (
    "{% for message in messages %}\n"
    "  {% if message['role'] == 'assistant' %}\n"
    "{{ '<|im_start|>assistant\\n' }}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}\n"
    "  {% else %}\n"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\n"
    "  {% endif %}\n"
    "{% endfor %}\n"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "thinking": THINKING, "marked": MARKED}

CONVERSATIONS = [
    [{"role": "user", "content": "Hello there!"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello. 😀 日本"}],
    [
        {"role": "system", "content": "Be brief.  "},
        {"role": "user", "content": "Yes?\nyes"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "yes"},
        {"role": "assistant", "content": "  No, yes.\n\nyes  "},
    ],
    [
        {"role": "user", "content": "2+2"},
        {"role": "assistant", "content": "<think>easy</think>\n4"},
        {"role": "user", "content": "3+3"},
        {"role": "assistant", "content": "<think>4 + 2</think>\n6"},
    ],
]


def tokenizer():
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    base.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    base.train_from_iterator([m["content"] for c in CONVERSATIONS for m in c], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=base, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


tok = tokenizer()
cases = []
for name, template in TEMPLATES.items():
    for messages in CONVERSATIONS:
        for prompt in (False, True):
            args = dict(chat_template=template, add_generation_prompt=prompt)
            case = {"template": name, "messages": messages, "addGenerationPrompt": prompt}
            case["text"] = tok.apply_chat_template(messages, tokenize=False, **args)
            if name == "marked":
                out = tok.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True, **args)
                case["ids"] = out["input_ids"]
                case["mask"] = out["assistant_masks"]
            else:
                case["ids"] = tok.apply_chat_template(messages, return_dict=True, **args)["input_ids"]
            cases.append(case)

out = {
    "library": f"transformers {transformers.__version__}",
    "specialTokens": SPECIALS,
    "vocabSize": 300,
    "texts": [m["content"] for c in CONVERSATIONS for m in c],
    "templates": TEMPLATES,
    "cases": cases,
}
path = Path(__file__).parent / "chat_golden.json"
path.write_text(json.dumps(out, ensure_ascii=True, separators=(",", ":")) + "\n")
print(f"{path}: {path.stat().st_size} bytes")
