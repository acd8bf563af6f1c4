// Times oneDNN's matrix product: one JSON request per line in, one JSON answer per line out (as torch_matmul.py).
// Compiled by bench/matmul.ts: c++ -O2 onednn_matmul.cc -ldnnl
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "dnnl.hpp"

namespace {

using Clock = std::chrono::steady_clock;

// The value after "key": in a flat JSON object; enough for requests that we write ourselves.
long field(const std::string& line, const char* key) {
  const size_t at = line.find("\"" + std::string(key) + "\":");
  if (at == std::string::npos) return -1;
  const char* text = line.c_str() + at + std::strlen(key) + 3;
  if (std::strncmp(text, "true", 4) == 0) return 1;
  return std::strtol(text, nullptr, 10);
}

struct Product {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::string key;
  std::vector<char> a, b, c;
  dnnl::matmul primitive;
  dnnl::memory memoryA, memoryB, memoryC;

  void prepare(long m, long k, long n, bool transposeA, bool transposeB, bool bfloat16) {
    using dnnl::memory;
    const auto type = bfloat16 ? memory::data_type::bf16 : memory::data_type::f32;
    const memory::desc mdA({m, k}, type, transposeA ? memory::dims{1, m} : memory::dims{k, 1});
    const memory::desc mdB({k, n}, type, transposeB ? memory::dims{1, k} : memory::dims{n, 1});
    const memory::desc mdC({m, n}, type, memory::dims{n, 1});
#if DNNL_VERSION_MAJOR >= 3
    primitive = dnnl::matmul(dnnl::matmul::primitive_desc(engine, mdA, mdB, mdC));
#else
    primitive = dnnl::matmul(dnnl::matmul::primitive_desc(dnnl::matmul::desc(mdA, mdB, mdC), engine));
#endif
    const auto fill = [&](std::vector<char>& v, long size) {
      const size_t bytes = bfloat16 ? 2 : 4;
      v.resize(static_cast<size_t>(size) * bytes);
      for (size_t i = 0; i < v.size(); i += bytes) {
        const float x = static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX) - 0.5f;
        std::memcpy(&v[i], reinterpret_cast<const char*>(&x) + 4 - bytes, bytes);  // little-endian: the upper half
      }
    };
    fill(a, m * k);
    fill(b, k * n);
    fill(c, m * n);
    memoryA = memory(mdA, engine, a.data());
    memoryB = memory(mdB, engine, b.data());
    memoryC = memory(mdC, engine, c.data());
  }

  void run() {
    primitive.execute(stream, {{DNNL_ARG_SRC, memoryA}, {DNNL_ARG_WEIGHTS, memoryB}, {DNNL_ARG_DST, memoryC}});
    stream.wait();
  }
};

}  // namespace

int main() {
  Product product;
  for (std::string line; std::getline(std::cin, line);) {
    if (field(line, "threads") >= 0) {  // set by OMP_NUM_THREADS
      const auto* version = dnnl::version();
      std::printf("{\"version\": \"%d.%d.%d\"}\n", version->major, version->minor, version->patch);
    } else {
      const long m = field(line, "m"), k = field(line, "k"), n = field(line, "n"), repeats = field(line, "repeats");
      const bool transposeA = field(line, "transposeA") == 1, transposeB = field(line, "transposeB") == 1;
      const bool bfloat16 = field(line, "bfloat16") == 1;
      const std::string key = std::to_string(m) + " " + std::to_string(k) + " " + std::to_string(n) +
                              (transposeA ? " T" : " N") + (transposeB ? "T" : "N") + (bfloat16 ? " bf16" : "");
      if (key != product.key) {
        product.prepare(m, k, n, transposeA, transposeB, bfloat16);
        product.run();
        product.key = key;
      }
      const auto start = Clock::now();
      for (long i = 0; i < repeats; i++) product.run();
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      std::printf("{\"seconds\": %.9g}\n", seconds / static_cast<double>(repeats));
    }
    std::fflush(stdout);
  }
}
