"""Golden values of encoder-decoders; run by make_goldens.py. A case is a folder as there, golden.safetensors has

    source[B,S], tokens[B,T]     what is read, and what the decoder is given; `target_mask` as in make_goldens.py
    targets[B,T]                 -100 where they do not count
    logits.eager, .sdpa          [B,T,V]
    loss, grad.<parameter>, adamw_losses[10] at a rate of 1e-3: at 3e-3 rounding alone moves the tenth loss by 1e-4
    padded.*                     the sources cut to padded.lengths, padded on the right, and the logits with the mask
    decode.*                     greedy continuation with the reference's caches, and the logits of each step
"""

import torch
from transformers import T5Config, T5ForConditionalGeneration

VOCAB, B, S, T = 61, 3, 17, 11
T5 = dict(vocab_size=VOCAB, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3, dropout_rate=0.0, n_positions=40,
          decoder_start_token_id=0)

CASES = {
    "t5": T5Config(**T5),
    "t5-variant": T5Config(**T5 | dict(
        d_kv=6, num_decoder_layers=3, relative_attention_num_buckets=8, relative_attention_max_distance=9,
        layer_norm_epsilon=1e-3, feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
}


def build(config, seed):
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(config).eval()
    if not config.scale_decoder_outputs:
        # Version 1.1 has a head of its own, though this version of the reference ties it in a new model.
        model.lm_head.weight = torch.nn.Parameter(torch.empty(VOCAB, config.d_model))
        model.config.tie_word_embeddings = False
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.copy_(1.0 + 0.2 * torch.randn_like(p))
            elif "relative" in name or "shared" in name:
                p.copy_(0.7 * torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) * p.shape[-1] ** -0.5)
    return model


def golden(model):
    out = {}
    source = torch.randint(1, VOCAB, (B, S))
    targets = torch.randint(1, VOCAB, (B, T))
    tokens = torch.cat([torch.zeros(B, 1, dtype=torch.long), targets[:, :-1]], dim=1)
    mask = torch.rand(B, T) > 0.2
    targets = targets.masked_fill(~mask, -100)
    out["source"], out["tokens"], out["targets"] = (x.to(torch.int32) for x in (source, tokens, targets))

    def run(implementation, source=source, **more):
        model.set_attn_implementation(implementation)
        return model(input_ids=source, decoder_input_ids=tokens, **more).logits

    def mean_loss():
        return torch.nn.functional.cross_entropy(run("eager").reshape(-1, VOCAB), targets.reshape(-1), ignore_index=-100)

    lengths = torch.tensor([S, 5, 12])
    attention_mask = (torch.arange(S)[None] < lengths[:, None]).to(torch.int64)
    with torch.no_grad():
        for implementation in ("eager", "sdpa"):
            out[f"logits.{implementation}"] = run(implementation)
        out["padded.lengths"] = lengths.to(torch.int32)
        out["padded.logits"] = run("eager", source * attention_mask, attention_mask=attention_mask)
        cache, given, steps, chosen = None, tokens[:, :1], [], []
        encoded = model.encoder(input_ids=source)
        for _ in range(8):
            result = model(encoder_outputs=encoded, decoder_input_ids=given, past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            steps.append(result.logits[:, -1])
            given = steps[-1].argmax(-1, keepdim=True)
            chosen.append(given)
    out["decode.tokens"] = torch.cat(chosen, dim=1).to(torch.int32)
    out["decode.logits"] = torch.stack(steps, dim=1)

    loss = mean_loss()
    model.zero_grad()
    loss.backward()
    out["loss"] = loss.detach()
    for name, p in model.named_parameters():
        out[f"grad.{name}"] = p.grad.clone()
    named = list(model.named_parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [p for _, p in named if p.ndim >= 2], "weight_decay": 0.1},
         {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0}],
        lr=1e-3, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    losses = []
    for _ in range(10):
        loss = mean_loss()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    out["adamw_losses"] = torch.tensor(losses)
    return out
