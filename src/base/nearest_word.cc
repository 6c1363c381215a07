#include "base/nearest_word.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace hob {
namespace {

constexpr size_t kTypedMax = 32;  // longer than any word that is looked for

// Edits (a letter more, less, another, two swapped) from one word to the other.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t other = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, other});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = std::exchange(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string nearest_word(std::string_view typed, const std::vector<std::string>& known) {
  if (typed.size() > kTypedMax) return {};
  std::string best;
  size_t best_distance = 3;  // more edits than two make another word
  for (const std::string& word : known) {
    const size_t edits = distance(typed, word);
    // Of a short word every letter counts: "ls" is not "ps".
    if (edits < best_distance && 2 * edits < word.size()) {
      best = word;
      best_distance = edits;
    }
  }
  return best;
}

}  // namespace hob
