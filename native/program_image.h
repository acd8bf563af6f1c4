// A ProgramSpec as bytes, for places without Node-API: WebAssembly and the test driver. Written by
// `src/engine/compile/program-image.ts`, which describes the format.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "program.h"

namespace plinth {

// Reads words of 8 bytes: numbers as float64, runs of bytes as their length and the bytes, filled up to a whole word.
// Throws std::runtime_error where the bytes end too early or a number is not what was expected.
class ImageReader {
 public:
  ImageReader(const void* data, int64_t bytes) : at_(static_cast<const uint8_t*>(data)), end_(at_ + bytes) {}

  double number(const char* what);
  int64_t integer(const char* what);
  // A number of things that follow, each of at least one word.
  int64_t count(const char* what);
  // The start of a run; it stays where it is.
  const uint8_t* bytes(const char* what, int64_t& size);
  std::string text(const char* what);
  bool atEnd() const { return at_ == end_; }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

struct ProgramImage {
  ProgramSpec spec;
  std::vector<int64_t> aliasInputs;  // per output: the donated input whose memory it takes, or -1
};

ProgramImage readProgram(ImageReader& reader);

}  // namespace plinth
