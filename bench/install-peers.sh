#!/usr/bin/env bash
# Installs the rivals that the benches race against into a virtual environment: bench/install-peers.sh [FOLDER]
# Then: PLINTH_PYTHON=FOLDER/bin/python npm run bench
set -euo pipefail
folder="${1:-.peers}"
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet "torch==2.13.0" numpy transformers peft safetensors tokenizers
"$folder/bin/pip" install --quiet onednn-devel-cpu-gomp onednn-cpu-gomp || echo "oneDNN from the system instead"
# llama.cpp, compiled here for this processor (some minutes); what is installed already stays.
"$folder/bin/python" -c "import llama_cpp" 2>/dev/null || CMAKE_ARGS="-DGGML_NATIVE=ON" \
  "$folder/bin/pip" install --quiet --no-binary llama-cpp-python "llama-cpp-python==0.3.36" gguf ||
  echo "llama.cpp not installed: its rows will be skipped"
if command -v apt-get >/dev/null 2>&1; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends libdnnl-dev || echo "oneDNN not installed: its rows will be skipped"
fi
echo "PLINTH_PYTHON=$folder/bin/python npm run bench"
