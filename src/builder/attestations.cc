#include "builder/attestations.h"

#include <boost/json.hpp>

#include "base/version.h"
#include "image/content_digest.h"

namespace hob::builder {

namespace {

namespace json = boost::json;

constexpr const char* kCreated = "1980-01-01T00:00:00Z";  // kLayerTime: it says nothing
constexpr const char* kNoAssertion = "NOASSERTION";
constexpr const char* kName = "image";
constexpr const char* kBuildType = "https://hob.localhost/build/v1";
constexpr const char* kBuilder = "https://hob.localhost/builder/container";

std::string digits(const std::string& digest) { return std::string(image::digest_hex(digest)); }

json::object relationship(std::string_view from, std::string_view kind, std::string_view to) {
  return {{"spdxElementId", from}, {"relationshipType", kind}, {"relatedSpdxElement", to}};
}

}  // namespace

Attestation bill_of_materials(const std::string& image_digest, const std::vector<Part>& parts) {
  json::array packages = {
      {{"SPDXID", "SPDXRef-image"},
       {"name", kName},
       {"versionInfo", image_digest},
       {"downloadLocation", kNoAssertion},
       {"filesAnalyzed", false},
       {"checksums", json::array{json::object{{"algorithm", "SHA256"},
                                              {"checksumValue", digits(image_digest)}}}}}};
  json::array relationships = {relationship("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image")};
  for (size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    const std::string id = fmt::format("SPDXRef-p{}", i + 1);
    packages.push_back(json::object{
        {"SPDXID", id},
        {"name", part.name},
        {"versionInfo", part.version},
        {"downloadLocation", kNoAssertion},
        {"filesAnalyzed", false},
        {"licenseConcluded", kNoAssertion},
        // Package managers' words for a licence are not always SPDX's, and a wrong one is refused.
        {"licenseDeclared", kNoAssertion},
        {"copyrightText", kNoAssertion},
        {"externalRefs", json::array{json::object{{"referenceCategory", "PACKAGE-MANAGER"},
                                                  {"referenceType", "purl"},
                                                  {"referenceLocator", package_url(part)}}}}});
    if (!part.license.empty()) {
      packages.back().as_object()["licenseComments"] = "declared: " + part.license;
    }
    relationships.push_back(relationship("SPDXRef-image", "CONTAINS", id));
  }
  const json::object document = {
      {"spdxVersion", "SPDX-2.3"},
      {"dataLicense", "CC0-1.0"},
      {"SPDXID", "SPDXRef-DOCUMENT"},
      {"name", kName},
      {"documentNamespace", "https://hob.localhost/spdx/" + digits(image_digest)},
      {"creationInfo",
       {{"created", kCreated}, {"creators", json::array{fmt::format("Tool: hob-{}", kVersion)}}}},
      {"documentDescribes", json::array{"SPDXRef-image"}},
      {"packages", std::move(packages)},
      {"relationships", std::move(relationships)}};
  return {.type = kSpdxType, .text = json::serialize(document)};
}

Attestation provenance(const Provenance& made) {
  json::object parameters = {{"runtime", made.runtime}, {"configuration", made.configuration}};
  json::array dependencies;
  const auto source = made.labels.find("org.opencontainers.image.source");
  const auto revision = made.labels.find("org.opencontainers.image.revision");
  if (source != made.labels.end()) {
    const std::string uri = "git+" + source->second;
    parameters["source"] = uri;
    json::object described = {{"uri", uri}};
    if (revision != made.labels.end()) {
      described["digest"] = json::object{{"gitCommit", revision->second}};
    }
    dependencies.push_back(std::move(described));
  }
  for (const Layer& layer : made.layers) {
    dependencies.push_back(
        json::object{{"uri", "oci:layer"}, {"digest", {{"sha256", digits(layer.digest)}}}});
  }
  json::object metadata;
  if (!made.operation.empty()) {
    metadata = {{"invocationId", made.operation},
                {"startedOn", made.started},
                {"finishedOn", made.finished}};
  }
  const json::object statement = {
      {"_type", "https://in-toto.io/Statement/v1"},
      {"subject", json::array{json::object{{"name", kName},
                                           {"digest", {{"sha256", digits(made.image_digest)}}}}}},
      {"predicateType", "https://slsa.dev/provenance/v1"},
      {"predicate",
       {{"buildDefinition",
         {{"buildType", kBuildType},
          {"externalParameters", std::move(parameters)},
          {"resolvedDependencies", std::move(dependencies)}}},
        {"runDetails",
         {{"builder", {{"id", kBuilder}, {"version", {{"hob", kVersion}}}}},
          {"metadata", std::move(metadata)}}}}}};
  return {.type = kInTotoType, .text = json::serialize(statement)};
}

}  // namespace hob::builder
