// Runs programs from files without Node: under an emulator of another processor, or with a sanitizer in the build.
//
//   driver [--threads 1,2,4] [--seconds N] [--seed N] [--isolate] CASES...
//
// Each case (test/native/driver-cases.ts writes them) is a program, its inputs, and what it should give. It runs with
// every number of threads: the first result must be near the expected one, the others the same to the bit. With
// --seconds the cases are run in random order until the time is up. A case may be hostile: then it may give anything or be refused, by a
// message, but must not crash; with --isolate each case has a process of its own, and a crash is one failure of many (a
// case that loops over an astronomical shape is given up after ten seconds, which is none). Ends with a line "N runs, N refused, N failed" and exits 1 when anything failed.
#include <chrono>
#include <csignal>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "cpu.h"
#include "engine.h"
#include "kernels/element.h"
#include "program_image.h"

namespace plinth {
namespace {

struct Expected {
  DType dtype;
  double tolerance, scale;
  std::vector<double> values;
};

struct Case {
  std::string name;
  bool hostile;
  const uint8_t* image;
  int64_t imageBytes;
  std::vector<std::vector<uint8_t>> inputs;
  std::vector<Expected> expected;
};

std::vector<uint8_t> readFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(std::string(path) + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void readCases(const std::vector<uint8_t>& file, std::vector<Case>& cases) {
  ImageReader reader(file.data(), static_cast<int64_t>(file.size()));
  for (int64_t n = reader.count("cases"); n > 0; n--) {
    Case c;
    c.name = reader.text("name");
    c.hostile = reader.integer("hostile") != 0;
    c.image = reader.bytes("program", c.imageBytes);
    for (int64_t i = reader.count("inputs"); i > 0; i--) {
      int64_t size;
      const uint8_t* data = reader.bytes("input", size);
      c.inputs.emplace_back(data, data + size);
    }
    for (int64_t i = reader.count("expected"); i > 0; i--) {
      Expected e;
      e.dtype = static_cast<DType>(reader.integer("dtype"));
      e.tolerance = reader.number("tolerance");
      e.scale = reader.number("scale");
      int64_t size;
      const uint8_t* data = reader.bytes("values", size);
      e.values.resize(static_cast<size_t>(size / 8));
      if (size > 0) std::memcpy(e.values.data(), data, static_cast<size_t>(size));
      c.expected.push_back(std::move(e));
    }
    cases.push_back(std::move(c));
  }
}

// The engine as the addon uses it, and a way to wait for it.
class Runner {
 public:
  Runner()
      : engine_([this](std::unique_ptr<RunRequest> request) {
          std::lock_guard<std::mutex> lock(mutex_);
          done_ = std::move(request);
          wake_.notify_one();
        }) {}

  // Outputs of a program, each in memory of exactly its size, so that a sanitizer sees every byte beyond.
  std::vector<std::vector<uint8_t>> run(const Case& c, int threads) {
    engine_.setThreads(threads);
    ImageReader reader(c.image, c.imageBytes);
    ProgramImage image = readProgram(reader);
    const auto program = std::make_shared<Program>(std::move(image.spec), engine_.pool());
    if (program->inputBytes().size() != c.inputs.size()) throw std::runtime_error("the case has other inputs");
    std::vector<AlignedBuffer> inputs, outputs;
    auto request = std::make_unique<RunRequest>();
    request->program = program;
    for (size_t i = 0; i < c.inputs.size(); i++) {
      if (static_cast<int64_t>(c.inputs[i].size()) != program->inputBytes()[i]) {
        throw std::runtime_error("input " + std::to_string(i) + " has another size");
      }
      inputs.emplace_back(program->inputBytes()[i]);
      if (!c.inputs[i].empty()) std::memcpy(inputs.back().data(), c.inputs[i].data(), c.inputs[i].size());
      request->inputs.push_back(inputs.back().data());
    }
    for (size_t i = 0; i < program->outputBytes().size(); i++) {
      const int64_t alias = image.aliasInputs[i], bytes = program->outputBytes()[i];
      outputs.emplace_back(alias < 0 ? bytes : 0);
      if (alias < 0) std::memset(outputs.back().data(), 0x7b, static_cast<size_t>(bytes));
      request->outputs.push_back(alias < 0 ? outputs.back().data() : inputs[static_cast<size_t>(alias)].data());
    }
    const std::vector<void*> results = request->outputs;
    std::unique_lock<std::mutex> lock(mutex_);
    engine_.submit(std::move(request));
    wake_.wait(lock, [this] { return done_ != nullptr; });
    const std::string error = done_->error;
    done_.reset();
    if (!error.empty()) throw std::runtime_error(error);
    std::vector<std::vector<uint8_t>> copies;
    for (size_t i = 0; i < results.size(); i++) {
      const auto* from = static_cast<const uint8_t*>(results[i]);
      copies.emplace_back(from, from + program->outputBytes()[i]);
    }
    return copies;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::unique_ptr<RunRequest> done_;
  Engine engine_;
};

// What differs from the expectation, or "".
std::string compare(const std::vector<uint8_t>& actual, const Expected& e) {
  if (actual.size() != e.values.size() * static_cast<size_t>(bytesOf(e.dtype))) return "another size than expected";
  std::string problem;
  withElement(e.dtype, [&](auto kind) {
    using T = decltype(kind);
    for (size_t i = 0; i < e.values.size() && problem.empty(); i++) {
      T element;
      std::memcpy(&element, actual.data() + i * sizeof(T), sizeof(T));
      double value;
      if constexpr (std::is_same_v<T, int32_t>) value = element;
      else value = toFloat(element);
      const double wanted = e.values[i];
      if (value == wanted || (std::isnan(value) && std::isnan(wanted))) continue;
      const double limit = e.tolerance * std::fmax(std::fmax(1.0, e.scale), std::fabs(wanted));
      if (!(std::fabs(value - wanted) <= limit)) {
        problem = "element " + std::to_string(i) + ": expected " + std::to_string(wanted) + ", got " +
                  std::to_string(value) + " (limit " + std::to_string(limit) + ")";
      }
    }
  });
  return problem;
}

std::vector<int> readThreads(const char* text) {
  std::vector<int> threads;
  for (const char* at = text; *at != '\0';) {
    char* end = nullptr;
    threads.push_back(static_cast<int>(std::strtol(at, &end, 10)));
    if (end == at || threads.back() < 1) throw std::runtime_error(std::string("--threads: ") + text);
    at = *end == ',' ? end + 1 : end;
  }
  return threads;
}

struct Totals {
  long long runs = 0, refused = 0, failed = 0;

  void fail(const Case& c, const std::string& problem) {
    failed++;
    std::printf("FAILED %s: %s\n", c.name.c_str(), problem.c_str());
  }
};

void runCase(Runner& runner, const Case& c, const std::vector<int>& threads, Totals& totals) {
  // The name before the run: after a crash it is the last line.
  if (std::getenv("PLINTH_DRIVER_VERBOSE") != nullptr) std::fprintf(stderr, "%s\n", c.name.c_str());
  std::vector<std::vector<uint8_t>> first;
  try {
    for (size_t t = 0; t < threads.size(); t++) {
      const auto outputs = runner.run(c, threads[t]);
      totals.runs++;
      if (t > 0) {
        // A hostile program may read what nothing wrote: the arena as the run before left it.
        for (size_t i = 0; i < outputs.size() && !c.hostile; i++) {
          if (outputs[i] != first[i]) {
            totals.fail(c, "output " + std::to_string(i) + " has other bits with " + std::to_string(threads[t]) +
                               " threads than with " + std::to_string(threads[0]));
          }
        }
        continue;
      }
      first = outputs;
      for (size_t i = 0; i < c.expected.size(); i++) {
        const std::string problem = compare(outputs[i], c.expected[i]);
        if (!problem.empty()) totals.fail(c, "output " + std::to_string(i) + ", " + problem);
      }
    }
  } catch (const std::exception& error) {
    totals.refused++;
    if (!c.hostile) totals.fail(c, error.what());
    else if (std::strlen(error.what()) < 8) totals.fail(c, std::string("says only \"") + error.what() + "\"");
  }
}

// In a process of its own. Before this process has threads.
void runIsolated(const Case& c, const std::vector<int>& threads, Totals& totals) {
#if defined(__unix__)
  std::fflush(stdout);
  int pipes[2];
  if (pipe(pipes) != 0) throw std::runtime_error("pipe failed");
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    alarm(10);
    Totals mine;
    {
      Runner runner;
      runCase(runner, c, threads, mine);
    }
    std::fflush(stdout);
    const bool written = write(pipes[1], &mine, sizeof mine) == static_cast<ssize_t>(sizeof mine);
    _exit(written ? 0 : 1);
  }
  close(pipes[1]);
  Totals its;
  const bool whole = read(pipes[0], &its, sizeof its) == static_cast<ssize_t>(sizeof its);
  close(pipes[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (whole) {
    totals.runs += its.runs;
    totals.refused += its.refused;
    totals.failed += its.failed;
  } else if (!(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)) {
    totals.fail(c, "crashed");
  }
#else
  (void)threads;
  totals.fail(c, "--isolate needs a Unix");
#endif
}

int drive(int argc, char** argv) {
  std::vector<int> threads = {1, 2};
  bool isolate = false;
  double seconds = 0;
  unsigned seed = 1;
  std::vector<std::vector<uint8_t>> files;
  std::vector<Case> cases;
  for (int i = 1; i < argc; i++) {
    const std::string arg = argv[i];
    if (arg == "--threads" && i + 1 < argc) threads = readThreads(argv[++i]);
    else if (arg == "--seconds" && i + 1 < argc) seconds = std::atof(argv[++i]);
    else if (arg == "--seed" && i + 1 < argc) seed = static_cast<unsigned>(std::atoi(argv[++i]));
    else if (arg == "--isolate") isolate = true;
    else files.push_back(readFile(argv[i]));
  }
  for (const auto& file : files) readCases(file, cases);
  if (cases.empty()) throw std::runtime_error("no cases");

  std::mt19937 random(seed);
  const auto started = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count(); };
  Totals totals;
  std::unique_ptr<Runner> runner;
  for (size_t at = 0; seconds > 0 ? elapsed() < seconds : at < cases.size(); at++) {
    const Case& c = cases[seconds > 0 ? random() % cases.size() : at];
    if (isolate) {
      runIsolated(c, threads, totals);
    } else {
      if (runner == nullptr) runner = std::make_unique<Runner>();
      runCase(*runner, c, threads, totals);
    }
  }
  std::printf("%s: %zu cases, %lld runs, %lld refused, %lld failed\n", compiledIsa(), cases.size(), totals.runs,
              totals.refused, totals.failed);
  return totals.failed > 0 ? 1 : 0;
}

}  // namespace
}  // namespace plinth

int main(int argc, char** argv) {
  try {
    return plinth::drive(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "driver: %s\n", error.what());
    return 2;
  }
}
