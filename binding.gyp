# One full addon per instruction set; src/engine/backends picks one at load. Every .cc file of native/kernels/ is part of
# each, so adding a kernel is adding a file.
{
  "variables": {
    "plinth_gcc": "<!(node scripts/native-sources.mjs --is-gcc)",
  },
  "target_defaults": {
    "include_dirs": ["native"],
    "defines": ["NAPI_VERSION=8", "NODE_GYP_MODULE_NAME=plinth"],
    # No -ffast-math: results are specified. Contraction stays off so that a multiply and an add round the same way
    # in every variant unless a kernel asks for a fused one.
    "cflags": ["-O3", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"],
    "cflags!": ["-fno-omit-frame-pointer", "-O2", "-Os"],
    "cflags_cc": ["-std=c++20", "-fvisibility-inlines-hidden"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++14", "-std=gnu++17", "-std=gnu++20", "-std=gnu++1y"],
    "xcode_settings": {
      "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
      "GCC_ENABLE_CPP_RTTI": "YES",
      "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
      "GCC_OPTIMIZATION_LEVEL": "3",
      "CLANG_CXX_LANGUAGE_STANDARD": "c++20",
      "CLANG_CXX_LIBRARY": "libc++",
      "MACOSX_DEPLOYMENT_TARGET": "11.0",
      "OTHER_CFLAGS": ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"],
    },
    "msvs_settings": {
      "VCCLCompilerTool": {
        "ExceptionHandling": 1,
        "RuntimeTypeInfo": "true",
        "AdditionalOptions": ["/std:c++20", "/fp:precise", "/O2"],
      },
    },
    "conditions": [
      ["OS=='linux'", {"ldflags": ["-Wl,--exclude-libs,ALL", "-Wl,-Bsymbolic"]}],
      ["plinth_gcc=='1'", {"cflags_cc": ["-fno-gnu-unique"]}],
    ],
  },
  "targets": [
    # What is the same in every variant is compiled once.
    {"target_name": "plinth-runtime", "type": "static_library", "sources": ["<!@(node scripts/native-sources.mjs --runtime)"]},
  ],
  "conditions": [
    ["target_arch=='x64'", {
      "targets": [
        {"target_name": "plinth-baseline", "includes": ["native/variant.gypi"]},
        {
          "target_name": "plinth-avx2",
          "includes": ["native/variant.gypi"],
          "cflags": ["-mavx2", "-mfma", "-mf16c"],
          "xcode_settings": {"OTHER_CFLAGS": ["-mavx2", "-mfma", "-mf16c"]},
          "msvs_settings": {"VCCLCompilerTool": {"AdditionalOptions": ["/arch:AVX2"]}},
        },
        {
          "target_name": "plinth-avx512",
          "includes": ["native/variant.gypi"],
          "cflags": [
            "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mf16c", "-mprefer-vector-width=512",
          ],
          "xcode_settings": {
            "OTHER_CFLAGS": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mf16c"],
          },
          "msvs_settings": {"VCCLCompilerTool": {"AdditionalOptions": ["/arch:AVX512"]}},
        },
        {
          "target_name": "plinth-avx512bf16",
          "includes": ["native/variant.gypi"],
          "defines": ["PLINTH_AVX512_BF16"],
          "cflags": [
            "-mavx512bf16", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mf16c",
            "-mprefer-vector-width=512",
          ],
          "xcode_settings": {
            "OTHER_CFLAGS": [
              "-mavx512bf16", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mf16c",
            ],
          },
          "msvs_settings": {"VCCLCompilerTool": {"AdditionalOptions": ["/arch:AVX512"]}},
        },
      ],
    }],
    ["target_arch=='arm64'", {"targets": [{"target_name": "plinth-neon", "includes": ["native/variant.gypi"]}]}],
      ],
}
