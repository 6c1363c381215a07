// PUT /cpu-config, and how its body reads.
#include <charconv>

#include "base/file.h"
#include "microvm/api/answers.h"
#include "microvm/api/api.h"

namespace hob::microvm {
namespace {

constexpr size_t kCpuFileBytesMax = 1 << 20;
constexpr size_t kModifiersMax = 1024;  // of each kind; a host has fewer leaves and registers

// "0x1f" or "0b11".
void read_hex(Fields& fields, std::string_view name, uint32_t& into) {
  std::string text;
  fields.required(name, text);
  const int base = text.starts_with("0x") ? 16 : text.starts_with("0b") ? 2 : 0;
  const char* end = text.data() + text.size();
  const bool number =
      base != 0 && text.size() > 2 &&
      std::from_chars(text.data() + 2, end, into, base) == std::from_chars_result{end, std::errc()};
  if (!number) fields.fail_with(fmt::format("Failed to parse string [{}] as a number", text));
}

void read_bitmap(Fields& fields, size_t bits_max, BitFilter& into) {
  std::string text;
  fields.required("bitmap", text);
  auto bits = parse_bits(text, bits_max);
  if (!bits) return fields.fail_with(bits.error().message);
  into = *bits;
}

Result<CpuidRegister> read_register(const Json& json) {
  CpuidRegister change;
  std::string given;
  size_t name = 0;
  Fields fields(json, "struct CpuidRegisterModifier", {"register", "bitmap"},
                Fields::Unknown::kIgnored);
  fields.required("register", given);
  fields.variant("register", {"eax", "ebx", "ecx", "edx"}, name);
  change.name = static_cast<CpuidRegister::Name>(name);
  read_bitmap(fields, 32, change.bits);
  HOB_CHECK(fields.finish());
  return change;
}

// Each element of the list `name`, if there is one.
template <class T, class Read>
Result<std::vector<T>> read_list(const Fields& fields, std::string_view name, Read read) {
  std::vector<T> list;
  const Json* json = fields.find(name);
  if (json == nullptr || json->is_null()) return list;
  const auto* elements = json->as<Json::Array>();
  if (elements == nullptr) return fail(Code::kInvalid, "invalid type: expected a sequence");
  if (elements->size() > kModifiersMax)
    return fail(Code::kInvalid, "more than {} in `{}`", kModifiersMax, name);
  for (const Json& element : *elements) {
    HOB_TRY(T value, read(element));
    list.push_back(std::move(value));
  }
  return list;
}

Result<CpuidLeaf> read_leaf(const Json& json) {
  CpuidLeaf leaf;
  Fields fields(json, "struct CpuidLeafModifier", {"leaf", "subleaf", "flags", "modifiers"},
                Fields::Unknown::kIgnored);
  read_hex(fields, "leaf", leaf.leaf);
  read_hex(fields, "subleaf", leaf.subleaf);
  fields.required("flags", leaf.flags);
  if (fields.find("modifiers") == nullptr) fields.fail_with(Fields::missing("modifiers"));
  HOB_CHECK(fields.finish());
  HOB_TRY(leaf.registers, read_list<CpuidRegister>(fields, "modifiers", read_register));
  return leaf;
}

Result<MsrBits> read_msr(const Json& json) {
  MsrBits msr;
  Fields fields(json, "struct RegisterModifier", {"addr", "bitmap"}, Fields::Unknown::kIgnored);
  read_hex(fields, "addr", msr.index);
  read_bitmap(fields, 64, msr.bits);
  HOB_CHECK(fields.finish());
  return msr;
}

// "18" demands it; "!18" takes back a demand that this program does not make.
Result<std::optional<uint32_t>> read_capability(const Json& json) {
  const auto* text = json.as<std::string>();
  if (text == nullptr) return fail(Code::kInvalid, "invalid type: expected a string");
  const bool taken_back = text->starts_with('!');
  uint32_t number = 0;
  const char* end = text->data() + text->size();
  if (std::from_chars(text->data() + (taken_back ? 1 : 0), end, number) !=
      std::from_chars_result{end, std::errc()})
    return fail(Code::kInvalid, "Failed to parse KVM capability [{}]", *text);
  return taken_back ? std::nullopt : std::optional(number);
}

}  // namespace

Result<CpuTemplate> read_cpu_template(const Json& json) {
  CpuTemplate cpu;
  Fields fields(json, "struct CustomCpuTemplate",
                {"kvm_capabilities", "cpuid_modifiers", "msr_modifiers"});
  HOB_CHECK(fields.finish());
  HOB_TRY(const auto capabilities,
          read_list<std::optional<uint32_t>>(fields, "kvm_capabilities", read_capability));
  for (const auto& capability : capabilities)
    if (capability) cpu.capabilities.push_back(*capability);
  HOB_TRY(cpu.leaves, read_list<CpuidLeaf>(fields, "cpuid_modifiers", read_leaf));
  HOB_TRY(cpu.msrs, read_list<MsrBits>(fields, "msr_modifiers", read_msr));
  return cpu;
}

MicrovmApi::Answer MicrovmApi::put_cpu_configuration(const HttpRequest&, const Json& body) {
  HOB_TRY(cpu_, body_of(read_cpu_template(body)));
  configuration_.cpu_template = StaticTemplate::kNone;
  return done();
}

Result<void> MicrovmApi::set_cpu_from_file(const Json& json) {
  const auto* path = json.as<std::string>();
  std::string text;
  if (path != nullptr) {
    HOB_TRY(text, context(read_file(*path, kCpuFileBytesMax), "the CPU configuration"));
  }
  HOB_TRY(const Json whole, path != nullptr ? Json::parse(text) : Result<Json>(json));
  HOB_TRY(cpu_, context(read_cpu_template(whole), "the CPU configuration"));
  configuration_.cpu_template = StaticTemplate::kNone;
  return {};
}

}  // namespace hob::microvm
