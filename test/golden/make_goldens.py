"""Golden values of the models from the reference implementation. One command, from the repository's root:

    python test/golden/make_goldens.py [CASE...]

With names, only these cases of SIBLINGS, ENCODERS and HEADS, and those whose folder lies in one of them (`heads`), are made.
Needs torch, transformers and safetensors (written with torch 2.13.0, transformers 5.23.0, safetensors 0.8.0; the
versions that made the files are in test/golden/versions.json). Every case is a tiny model with random weights, biases
and norms, so that a wrong axis, scale or epsilon shows. A case is a folder: the Hugging Face model as `save_pretrained`
writes it, and golden.safetensors with

    tokens[B,T+1]            inputs are [:, :-1], targets [:, 1:] with -100 where `target_mask` is 0
    logits.eager, .sdpa      [B,T,V] under both attention implementations of the reference, where it has both
    loss, grad.<parameter>   mean cross-entropy over the targets that count, and its gradients (eager)
    adamw_losses[10]         ten steps on that batch: lr 3e-3, betas 0.9 0.95, eps 1e-8, decay 0.1 on matrices only,
                             gradients clipped to a global norm of 1
    packed.*                 three documents packed in one row; logits are those of each document alone
    padded.*                 the same documents as a right-padded batch; logits from the reference's attention mask
    aux.*                    mixtures of experts: the loss that keeps them evenly used, and its gradients
    nsp.*                    a pair of texts and the logits of the next-sentence head, where there is one
    heads/<head>             models with another head on a smaller trunk: tokens, tokenTypes, lengths of the texts, targets,
                             logits (and nextSentence, pooled), the reference's own loss, gradients, ten AdamW losses
    decode.*                 decoders: greedy continuation with the reference's cache, and the logits of each step
"""

import json
import os
import shutil
import sys
import zlib

import torch
import transformers
from safetensors import __version__ as safetensors_version
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, GPT2Config, GPT2LMHeadModel, GPT2Model, LlamaConfig, LlamaForCausalLM
from transformers import GPTNeoConfig, GPTNeoForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM, Starcoder2Config, Starcoder2ForCausalLM
from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig
from transformers import MixtralConfig, MixtralForCausalLM
from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

import seq2seq_goldens

from palm_reference import PalmForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
VOCAB, B, T = 61, 3, 13

GPT2 = dict(vocab_size=VOCAB, n_positions=40, n_embd=24, n_layer=2, n_head=3, bos_token_id=0, eos_token_id=1,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
LLAMA = dict(vocab_size=VOCAB, hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=6,
             num_key_value_heads=6, max_position_embeddings=40, bos_token_id=0, eos_token_id=1)
# pad_token_id: the reference takes no gradient for a token's vector that is looked up as padding; here ids are any tokens.
GEMMA = LLAMA | dict(num_key_value_heads=2, head_dim=8, pad_token_id=None, sliding_window=4)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=24)

CASES = {
    "gpt2": (GPT2LMHeadModel, GPT2Config(**GPT2)),
    "gpt2-variant": (GPT2LMHeadModel, GPT2Config(**GPT2 | dict(
        n_inner=40, activation_function="gelu", layer_norm_epsilon=1e-3, scale_attn_by_inverse_layer_idx=True,
        scale_attn_weights=False, tie_word_embeddings=False))),
    "llama": (LlamaForCausalLM, LlamaConfig(**LLAMA)),
    "llama-gqa": (LlamaForCausalLM, LlamaConfig(**LLAMA | dict(
        num_key_value_heads=2, head_dim=6, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
        rms_norm_eps=1e-3, rope_parameters=dict(rope_type="linear", rope_theta=500.0, factor=2.0)))),
    "llama3": (LlamaForCausalLM, LlamaConfig(**LLAMA | dict(num_attention_heads=4, num_key_value_heads=1, head_dim=16,
                                                           rope_parameters=LLAMA3))),
}

STARCODER2 = LLAMA | dict(num_key_value_heads=2, num_attention_heads=6, pad_token_id=None, tie_word_embeddings=True)
NEOX = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=40, bos_token_id=0, eos_token_id=1)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=10)
# Decoders after these two. Every option that a config has is away from its default; windows are shorter than the texts.
SIBLINGS = {
    "mistral": (MistralForCausalLM, MistralConfig(**LLAMA | dict(
        num_key_value_heads=2, head_dim=8, sliding_window=5, hidden_act="gelu", rms_norm_eps=1e-3,
        rope_parameters=dict(rope_type="dynamic", rope_theta=500.0, factor=2.0)))),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**LLAMA | dict(
        num_key_value_heads=2, use_sliding_window=True, sliding_window=4, max_window_layers=1, tie_word_embeddings=True,
        rms_norm_eps=1e-3, rope_parameters=YARN))),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**LLAMA | dict(
        num_key_value_heads=3, head_dim=10, use_sliding_window=True, sliding_window=3, attention_bias=True,
        layer_types=["sliding_attention", "full_attention"], rms_norm_eps=1e-3,
        rope_parameters=YARN | dict(truncate=False, beta_fast=8.0, beta_slow=2.0, attention_factor=1.3)))),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**GEMMA | dict(
        attention_bias=True, hidden_activation="gelu", query_pre_attn_scalar=5, final_logit_softcapping=3.0,
        attn_logit_softcapping=2.0, rms_norm_eps=1e-3, rope_parameters=dict(rope_type="linear", rope_theta=500.0, factor=2.0)))),
    "gemma3_text": (Gemma3ForCausalLM, Gemma3TextConfig(**GEMMA | dict(
        num_hidden_layers=3, layer_types=["sliding_attention", "full_attention", "sliding_attention"], attention_bias=True,
        query_pre_attn_scalar=5, final_logit_softcapping=3.0, tie_word_embeddings=False, rms_norm_eps=1e-3, rope_parameters=dict(
            full_attention=dict(rope_type="linear", rope_theta=1000.0, factor=2.0),
            sliding_attention=dict(rope_type="default", rope_theta=50.0))))),
    "mixtral": (MixtralForCausalLM, MixtralConfig(**LLAMA | dict(
        intermediate_size=20, num_key_value_heads=2, sliding_window=5, num_local_experts=5, num_experts_per_tok=3,
        output_router_logits=True, router_aux_loss_coef=0.3, rms_norm_eps=1e-3, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="linear", rope_theta=500.0, factor=2.0)))),
    "palm": (PalmForCausalLM, dict(
        architectures=["PalmForCausalLM"], model_type="palm", vocab_size=VOCAB, hidden_size=24, intermediate_size=36,
        num_hidden_layers=2, num_attention_heads=3, head_dim=10, max_position_embeddings=40, layer_norm_eps=1e-3,
        rope_theta=500.0, bos_token_id=0, eos_token_id=1)),
    "gpt_neo": (GPTNeoForCausalLM, GPTNeoConfig(
        vocab_size=VOCAB, max_position_embeddings=40, hidden_size=24, num_layers=3, num_heads=3, intermediate_size=40,
        attention_types=[[["local", "global"], 1], [["local"], 1]], window_size=4, activation_function="gelu",
        layer_norm_epsilon=1e-3, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1)),
    "gpt_neox": (GPTNeoXForCausalLM, GPTNeoXConfig(**NEOX)),
    "gpt_neox-variant": (GPTNeoXForCausalLM, GPTNeoXConfig(**NEOX | dict(
        use_parallel_residual=False, attention_bias=False, hidden_act="gelu_fast", layer_norm_eps=1e-3, tie_word_embeddings=True,
        rope_parameters=YARN | dict(rope_theta=500.0, partial_rotary_factor=0.5)))),
    "gpt_bigcode": (GPTBigCodeForCausalLM, GPTBigCodeConfig(**GPT2)),
    "gpt_bigcode-variant": (GPTBigCodeForCausalLM, GPTBigCodeConfig(**GPT2 | dict(
        multi_query=False, n_inner=40, activation_function="gelu", layer_norm_epsilon=1e-3, scale_attn_weights=False,
        tie_word_embeddings=False))),
    "starcoder2": (Starcoder2ForCausalLM, Starcoder2Config(**STARCODER2)),
    "starcoder2-variant": (Starcoder2ForCausalLM, Starcoder2Config(**STARCODER2 | dict(
        num_key_value_heads=3, sliding_window=4, hidden_act="gelu", norm_epsilon=1e-3, use_bias=False,
        tie_word_embeddings=False, rope_parameters=dict(rope_type="linear", rope_theta=500.0, factor=2.0)))),
}


BERT = dict(vocab_size=VOCAB, pad_token_id=None, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
            max_position_embeddings=40, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
MODERN = dict(vocab_size=VOCAB, hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=40, max_position_embeddings=40,
              local_attention=6, pad_token_id=None, bos_token_id=None, eos_token_id=None, cls_token_id=None, sep_token_id=None)
ENCODERS = {
    "bert": (BertForMaskedLM, BertConfig(**BERT)),
    "bert-variant": (BertForPreTraining, BertConfig(**BERT | dict(
        intermediate_size=40, hidden_act="gelu_new", layer_norm_eps=1e-3, type_vocab_size=3))),
    "roberta": (transformers.RobertaForMaskedLM, transformers.RobertaConfig(**BERT | dict(
        pad_token_id=1, intermediate_size=40, layer_norm_eps=1e-5, type_vocab_size=1, max_position_embeddings=42))),
    "distilbert": (transformers.DistilBertForMaskedLM, transformers.DistilBertConfig(
        vocab_size=VOCAB, pad_token_id=None, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=40,
        dropout=0.0, attention_dropout=0.0, activation="gelu")),
    "modernbert": (transformers.ModernBertForMaskedLM, transformers.ModernBertConfig(**MODERN)),
    "modernbert-variant": (transformers.ModernBertForMaskedLM, transformers.ModernBertConfig(**MODERN | dict(
        norm_bias=True, attention_bias=True, mlp_bias=True, classifier_bias=True, classifier_activation="gelu_new", hidden_activation="silu",
        norm_eps=1e-3, layer_types=["sliding_attention", "full_attention", "full_attention"],
        rope_parameters=dict(full_attention=dict(rope_type="default", rope_theta=500.0),
                             sliding_attention=dict(rope_type="default", rope_theta=100.0))))),
}


# Heads: [folder, class, config]. Tiny, because there are many.
SMALL = dict(vocab_size=31, pad_token_id=None, hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20,
             max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
LABELS = dict(id2label={0: "no", 1: "maybe", 2: "yes"}, label2id={"no": 0, "maybe": 1, "yes": 2})
SEQUENCE_HEADS = {
    "sequence": dict(problem_type="single_label_classification", **LABELS),
    "sequence-multi": dict(problem_type="multi_label_classification", **LABELS),
    "regression": dict(id2label={0: "score"}, label2id={"score": 0}),
}


def heads(model_type, config, prefix, names):
    """Cases of the heads of one architecture, `names`: head -> end of the class' name."""
    cases = {}
    for head, suffix in names.items():
        variants = SEQUENCE_HEADS if head == "sequence" else {head: LABELS if head == "tokens" else {}}
        for name, more in variants.items():
            cases[f"heads/{model_type}-{name}"] = (getattr(transformers, prefix + suffix), config(**more))
    return cases


ENCODER_HEADS = {"sequence": "ForSequenceClassification", "tokens": "ForTokenClassification",
                 "span": "ForQuestionAnswering", "none": "Model"}
DECODER = dict(vocab_size=31, bos_token_id=None, eos_token_id=1, pad_token_id=2)
HEADS = {
    **heads("gpt2", lambda **more: GPT2Config(**DECODER, n_positions=16, n_embd=12, n_layer=2, n_head=2, n_inner=20,
                                              resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **more),
            "GPT2", {"sequence": "ForSequenceClassification"}),
    **heads("llama", lambda **more: LlamaConfig(**DECODER, hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2,
                                                num_key_value_heads=1, max_position_embeddings=16, **more),
            "Llama", {"sequence": "ForSequenceClassification"}),
    **heads("gpt_neox", lambda **more: GPTNeoXConfig(**DECODER, hidden_size=16, intermediate_size=20, num_hidden_layers=2,
                                                     num_attention_heads=2, max_position_embeddings=16, **more),
            "GPTNeoX", {"sequence": "ForSequenceClassification"}),
    **heads("bert", lambda **more: BertConfig(**SMALL | more), "Bert", ENCODER_HEADS | {
        "pretraining": "ForPreTraining", "next-sentence": "ForNextSentencePrediction"}),
    **heads("roberta", lambda **more: transformers.RobertaConfig(**SMALL | dict(
        pad_token_id=1, type_vocab_size=1, layer_norm_eps=1e-5) | more), "Roberta", ENCODER_HEADS),
    **heads("distilbert", lambda **more: transformers.DistilBertConfig(
        vocab_size=31, pad_token_id=None, dim=12, n_layers=2, n_heads=2, hidden_dim=20, max_position_embeddings=16,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, qa_dropout=0.0, **more), "DistilBert", ENCODER_HEADS),
    **heads("modernbert", lambda **more: transformers.ModernBertConfig(**MODERN | dict(
        vocab_size=31, hidden_size=12, num_attention_heads=2, intermediate_size=20, max_position_embeddings=16,
        classifier_pooling="mean") | more), "ModernBert", ENCODER_HEADS),
}


def build(model_class, config, seed):
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) * (0.7 if "wte" in name or "wpe" in name or "embed" in name else p.shape[-1] ** -0.5))
    return model


def run(model, implementation, tokens, **more):
    model.set_attn_implementation(implementation)
    result = model(tokens, **more)
    return result.prediction_logits if "prediction_logits" in result else result.logits


def mean_loss(model, tokens, targets):
    logits = run(model, "eager", tokens)
    return torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB), targets.reshape(-1), ignore_index=-100)


def published(name, tensor, model_type):
    """A parameter under the names that checkpoints have: a mixture's experts are one array in memory and many in a file."""
    if name == "lm_head.weight" and model_type == "gpt_neox":
        return {"embed_out.weight": tensor.clone()}
    moe = name.replace(".mlp.", ".block_sparse_moe.") if ".experts." in name or ".mlp.gate.weight" in name else name
    if moe.endswith(".gate_up_proj"):
        F = tensor.shape[1] // 2
        return {moe.replace("gate_up_proj", f"{e}.{w}.weight"): part.clone() for e, both in enumerate(tensor)
                for w, part in (("w1", both[:F]), ("w3", both[F:]))}
    if ".experts." in moe:
        return {moe.replace("down_proj", f"{e}.w2.weight"): part.clone() for e, part in enumerate(tensor)}
    return {moe: tensor.clone()}


def gradients(model, prefix):
    return {f"{prefix}{key}": value for name, p in model.named_parameters()
            for key, value in published(name, torch.zeros_like(p) if p.grad is None else p.grad, model.config.model_type).items()}


def golden(model, is_decoder=True):
    out = {}
    # RoBERTa counts positions by what is no padding: ids are those that come after it.
    ids = torch.randint(2 if model.config.model_type == "roberta" else 0, VOCAB, (B, T + 1))
    mask = (torch.rand(B, T) > 0.2).to(torch.int32)
    inputs, targets = ids[:, :-1], ids[:, 1:].masked_fill(mask == 0, -100)
    out["tokens"], out["target_mask"] = ids.to(torch.int32), mask
    implementations = ["eager", "sdpa"] if model._supports_sdpa else ["eager"]
    for implementation in implementations:
        with torch.no_grad():
            out[f"logits.{implementation}"] = run(model, implementation, inputs)

    # Three documents: packed in a row, padded in a batch, and each alone.
    documents = [ids[0, :5], ids[1, :1], ids[2, :7]]
    with torch.no_grad():
        alone = [run(model, "eager", d[None])[0] for d in documents]
    out["packed.tokens"] = torch.cat(documents)[None].to(torch.int32)
    out["packed.segments"] = torch.cat([torch.full((len(d),), i) for i, d in enumerate(documents)])[None].to(torch.int32)
    out["packed.positions"] = torch.cat([torch.arange(len(d)) for d in documents])[None].to(torch.int32)
    out["packed.logits"] = torch.cat(alone)[None]
    width = max(len(d) for d in documents)
    padded = torch.stack([torch.nn.functional.pad(d, (0, width - len(d))) for d in documents])
    lengths = torch.tensor([len(d) for d in documents])
    attention_mask = (torch.arange(width)[None] < lengths[:, None]).to(torch.int64)
    with torch.no_grad():
        logits = run(model, implementations[-1], padded, attention_mask=attention_mask)
    out["padded.tokens"], out["padded.lengths"] = padded.to(torch.int32), lengths.to(torch.int32)
    out["padded.logits"] = logits * attention_mask[..., None]

    # Greedy decoding with the reference's cache.
    tokens, cache, steps, chosen = ids[:2, :6], None, [], []
    with torch.no_grad():
        for _ in range(8 if is_decoder else 0):
            result = model(tokens, past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            steps.append(result.logits[:, -1])
            tokens = steps[-1].argmax(-1, keepdim=True)
            chosen.append(tokens)
    if is_decoder:
        out["decode.prompt"] = ids[:2, :6].to(torch.int32)
        out["decode.tokens"] = torch.cat(chosen, dim=1).to(torch.int32)
        out["decode.logits"] = torch.stack(steps, dim=1)
    if isinstance(model, BertForPreTraining):
        types = (torch.arange(T)[None] >= torch.tensor([[4], [9], [12]])).to(torch.int64)
        out["nsp.tokens"], out["nsp.tokenTypes"] = inputs.to(torch.int32), types.to(torch.int32)
        with torch.no_grad():
            out["nsp.logits"] = model(inputs, token_type_ids=types).seq_relationship_logits

    loss = mean_loss(model, inputs, targets)
    model.zero_grad()
    loss.backward()
    out["loss"] = loss.detach()
    out |= gradients(model, "grad.")
    if getattr(model.config, "output_router_logits", False):
        model.zero_grad()
        out["aux.loss"] = model(inputs).aux_loss
        out["aux.loss"].backward()
        out["aux.loss"] = out["aux.loss"].detach()
        out |= gradients(model, "aux.grad.")

    out["adamw_losses"] = adamw_losses(model, lambda: mean_loss(model, inputs, targets))
    return out


def head_values(model, name):
    """Logits, loss, gradients and ten losses of a model with a head, on a padded batch of pairs of texts."""
    config, rows, width = model.config, 4, 9
    lengths = torch.tensor([9, 5, 7, 2])
    tokens = torch.randint(3, config.vocab_size, (rows, width))
    mask = (torch.arange(width)[None] < lengths[:, None]).to(torch.int64)
    if hasattr(model, "score"):
        # Decoders take the last token that is no padding.
        tokens = tokens.masked_fill(mask == 0, config.pad_token_id)
    types = ((torch.arange(width)[None] >= 3) & (mask == 1)).to(torch.int64)
    out = {"tokens": tokens.to(torch.int32), "lengths": lengths.to(torch.int32)}
    inputs = dict(input_ids=tokens, attention_mask=mask)
    if getattr(config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = types
        out["tokenTypes"] = types.to(torch.int32)
    head, labels = name.split("-", 1)[1], len(config.id2label)
    classes = torch.randint(0, labels, (rows,))
    each = torch.randint(0, labels, (rows, width)).masked_fill((mask == 0) | (torch.rand(rows, width) < 0.2), -100)
    targets = {
        "sequence": dict(labels=classes), "sequence-multi": dict(labels=torch.randint(0, 2, (rows, labels)).float()),
        "regression": dict(labels=torch.randn(rows, labels)), "tokens": dict(labels=each),
        "span": dict(start_positions=torch.tensor([1, 4, 2, 0]), end_positions=torch.tensor([6, 4, 5, 1])),
        "next-sentence": dict(labels=torch.tensor([1, 0, 0, 1])),
        "pretraining": dict(labels=torch.randint(0, config.vocab_size, (rows, width)).masked_fill(each < 1, -100),
                            next_sentence_label=torch.tensor([1, 0, 0, 1])),
        "none": {},
    }[head]

    def forward():
        result = model(**inputs, **targets)
        if head == "none":
            pooled = result.pooler_output if "pooler_output" in result else None
            loss = (result.last_hidden_state * mask[..., None]).square().sum() + (0 if pooled is None else pooled.square().sum())
            return loss, dict(logits=result.last_hidden_state, **({} if pooled is None else dict(pooled=pooled)))
        if head == "span":
            logits = torch.stack([result.start_logits, result.end_logits], -1)
            # The reference lets an answer begin in the padding; here it cannot.
            places = logits.masked_fill(mask[..., None] == 0, -1e9)
            loss = torch.nn.functional.cross_entropy(places, torch.stack(list(targets.values()), -1))
            return loss, dict(logits=logits)
        if head == "pretraining":
            return result.loss, dict(logits=result.prediction_logits, nextSentence=result.seq_relationship_logits)
        return result.loss, dict(logits=result.logits)

    if head == "span":
        out["targets"] = torch.stack(list(targets.values()), -1).to(torch.int32)
    elif "labels" in targets:
        out["targets"] = targets["labels"] if targets["labels"].is_floating_point() else targets["labels"].to(torch.int32)
    if "next_sentence_label" in targets:
        out["nextSentence.targets"] = targets["next_sentence_label"].to(torch.int32)
    model.set_attn_implementation("eager")
    loss, outputs = forward()
    model.zero_grad()
    loss.backward()
    for key, values in outputs.items():
        per_token = values.ndim == 3
        out[key] = (values * mask[..., None] if per_token else values).detach()
    out["loss"] = loss.detach()
    for key, p in model.named_parameters():
        out[f"grad.{key}"] = torch.zeros_like(p) if p.grad is None else p.grad.clone()
    out["adamw_losses"] = adamw_losses(model, lambda: forward()[0])
    return out


def adamw_losses(model, loss_of):
    """Ten steps; changes the weights."""
    named = list(model.named_parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [p for _, p in named if p.ndim >= 2], "weight_decay": 0.1},
         {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0}],
        lr=3e-3, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    losses = []
    for _ in range(10):
        loss = loss_of()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return torch.tensor(losses)


def folder(name):
    path = os.path.join(HERE, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def save(model, path, **options):
    model.save_pretrained(path, **options)
    for entry in os.scandir(path):
        if entry.name == "generation_config.json":
            os.remove(entry)
        else:
            os.chmod(entry, 0o644)


def save_tensors(tensors, path):
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    os.chmod(path, 0o644)


def make_case(name, model_class, config, seed, **options):
    model = build(model_class, config, seed)
    path = folder(name)
    save(model, path)
    values = head_values(model, name) if name.startswith("heads/") else golden(model, **options)
    save_tensors(values, os.path.join(path, "golden.safetensors"))
    if "logits.eager" not in values:
        return
    spread = (values["logits.eager"] - values.get("logits.sdpa", values["logits.eager"])).abs().max().item()
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, eager - sdpa {spread:.1e}, "
          f"losses {values['adamw_losses'][0]:.4f} -> {values['adamw_losses'][-1]:.4f}", file=sys.stderr)


def main(names):
    def wanted(name):
        return not names or any(name == n or name.startswith(f"{n}/") for n in names)

    torch.set_num_threads(1)
    for name, (model_class, config) in SIBLINGS.items():
        if wanted(name):
            make_case(name, model_class, config, zlib.crc32(name.encode()))
    for seed, (name, (model_class, config)) in enumerate(ENCODERS.items(), start=20):
        if wanted(name):
            make_case(name, model_class, config, seed, is_decoder=False)
    for name, (model_class, config) in HEADS.items():
        if wanted(name):
            make_case(name, model_class, config, zlib.crc32(name.encode()))
    if names:
        return
    for seed, (name, (model_class, config)) in enumerate(CASES.items()):
        make_case(name, model_class, config, seed)

    # Checkpoints as they come in the wild: bfloat16 in shards; float16 of the bare model, without prefix or head.
    tokens = torch.randint(0, VOCAB, (2, 9))
    for name, model, options in (
        ("llama-bf16-sharded", build(*CASES["llama-gqa"], 7).to(torch.bfloat16), {"max_shard_size": "9KB"}),
        ("gpt2-f16-bare", build(*CASES["gpt2"], 8).to(torch.float16), {}),
    ):
        path = folder(name)
        save(model.transformer if name == "gpt2-f16-bare" else model, path, **options)
        with torch.no_grad():
            logits = run(model.float(), "eager", tokens)
        save_tensors({"tokens": tokens.to(torch.int32), "logits.eager": logits}, os.path.join(path, "golden.safetensors"))

    for seed, (name, config) in enumerate(seq2seq_goldens.CASES.items(), start=40):
        model = seq2seq_goldens.build(config, seed)
        path = folder(name)
        save(model, path)
        save_tensors(seq2seq_goldens.golden(model), os.path.join(path, "golden.safetensors"))

    # Every element type, an empty tensor and a scalar, in the library's own order.
    save_file({
        "b.f32": torch.tensor([[1.5, -2.0, 3.25]]), "a.bf16": torch.tensor([1.0, -0.5]).bfloat16(),
        "c.f16": torch.tensor([0.25]).half(), "d.i64": torch.tensor([1, -1]), "e.i32": torch.tensor([7, -7, 3], dtype=torch.int32),
        "f.bool": torch.tensor([True, False, True]), "g.u8": torch.tensor([1, 2, 255], dtype=torch.uint8),
        "h.f64": torch.tensor([1e-3], dtype=torch.float64), "empty": torch.zeros(0, 4), "scalar": torch.tensor(3.0),
    }, os.path.join(HERE, "dtypes.safetensors"), metadata={"format": "pt"})

    with open(os.path.join(HERE, "versions.json"), "w") as f:
        json.dump({"torch": torch.__version__, "transformers": transformers.__version__,
                   "safetensors": safetensors_version}, f, indent=2)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1:])
