// main() of a fuzz target that is built without libFuzzer: runs it over every file of its corpus
// (the directory in argv[1]) and over seeded mutations of them. The same corpus and count give the
// same inputs: a failure repeats. HOB_FUZZ_RUNS: how many mutations (20,000 unless told).
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr size_t kInputBytesMax = 256 * 1024;
constexpr uint64_t kSeed = 20261123;
constexpr uint64_t kRunsDefault = 20'000;

using Input = std::vector<uint8_t>;

class Mutator {
 public:
  explicit Mutator(const std::vector<Input>& corpus) : corpus_(corpus), random_(kSeed) {}

  Input next() {
    Input input = corpus_[below(corpus_.size())];
    for (size_t steps = 1 + below(6); steps > 0; --steps) mutate(input);
    if (input.size() > kInputBytesMax) input.resize(kInputBytesMax);
    return input;
  }

 private:
  size_t below(size_t n) { return n == 0 ? 0 : random_() % n; }
  uint8_t byte() {
    // Half of them bytes that formats care about.
    static constexpr char kDear[] = "\r\n\t \0:;,/\\\"'{}[]%+-=.0129aAfF\x7f\x80\xff";
    if (below(2) == 0) return static_cast<uint8_t>(kDear[below(sizeof kDear - 1)]);
    return static_cast<uint8_t>(below(256));
  }

  void mutate(Input& input) {
    const size_t at = below(input.size() + 1);
    const size_t count = below(std::min<size_t>(input.size() - at, 64) + 1);
    const auto where = input.begin() + static_cast<std::ptrdiff_t>(at);
    switch (below(7)) {
      case 0:  // flip a bit
        if (at < input.size()) input[at] = static_cast<uint8_t>(input[at] ^ (1U << below(8)));
        break;
      case 1:  // another byte
        if (at < input.size()) input[at] = byte();
        break;
      case 2:
        input.insert(where, byte());
        break;
      case 3:
        input.erase(where, where + static_cast<std::ptrdiff_t>(count));
        break;
      case 4: {  // repeat a part, sometimes many times
        const Input part(where, where + static_cast<std::ptrdiff_t>(count));
        for (size_t times = below(8) == 0 ? below(200) : 1; times > 0; --times) {
          input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), part.begin(), part.end());
        }
        break;
      }
      case 5: {  // a part of another input
        const Input& other = corpus_[below(corpus_.size())];
        const size_t from = below(other.size() + 1);
        const size_t length = below(other.size() - from + 1);
        const auto begin = other.begin() + static_cast<std::ptrdiff_t>(from);
        input.insert(where, begin, begin + static_cast<std::ptrdiff_t>(length));
        break;
      }
      default:
        input.resize(at);
        break;
    }
  }

  const std::vector<Input>& corpus_;
  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (int i = 1; i < argc; ++i) {
    for (std::filesystem::recursive_directory_iterator entry(argv[i], error), end;
         !error && entry != end; entry.increment(error)) {
      if (entry->is_regular_file()) files.push_back(entry->path());
    }
    if (error) {
      std::fprintf(stderr, "reading %s: %s\n", argv[i], error.message().c_str());
      return 1;
    }
  }
  if (files.empty()) {
    std::fprintf(stderr, "usage: %s CORPUS_DIRECTORY, which must hold at least one file\n",
                 argv[0]);
    return 1;
  }
  std::sort(files.begin(), files.end());
  std::vector<Input> corpus;
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    LLVMFuzzerTestOneInput(corpus.back().data(), corpus.back().size());
  }
  LLVMFuzzerTestOneInput(nullptr, 0);
  const char* wanted = std::getenv("HOB_FUZZ_RUNS");
  const uint64_t runs = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : kRunsDefault;
  Mutator mutator(corpus);
  for (uint64_t run = 0; run < runs; ++run) {
    // A copy of exactly its size, so that a sanitizer sees the first byte read too many.
    const Input input = mutator.next();
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu corpus files and %llu mutations: no failure\n", corpus.size(),
              static_cast<unsigned long long>(runs));
  return 0;
}
