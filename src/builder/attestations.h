// What is said of an image beside it: a software bill of materials (SPDX 2.3) and its provenance
// (in-toto statement, SLSA 1). They name the image by its digest and hang on it as OCI 1.1
// referrers, so that its digest is not theirs to change. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "builder/layer.h"
#include "builder/parts.h"

namespace hob::builder {

inline constexpr const char* kSpdxType = "application/spdx+json";
inline constexpr const char* kInTotoType = "application/vnd.in-toto+json";

struct Attestation {
  std::string type{};  // its media type
  std::string text{};
};

struct Provenance {
  std::string image_digest{};                   // of its manifest
  std::string runtime{};                        // "nodejs 22"
  std::string configuration{};                  // the file that said how, or "detected"
  std::map<std::string, std::string> labels{};  // of the image: where its source comes from
  std::vector<Layer> layers{};                  // that it stands on, bottom first
  std::string operation{};                      // that asked for it, and when; empty: not said,
  std::string started{};                        // and then the same build says the same
  std::string finished{};
};

// The same image with the same parts gives the same text.
Attestation bill_of_materials(const std::string& image_digest, const std::vector<Part>& parts);
Attestation provenance(const Provenance& made);

}  // namespace hob::builder
