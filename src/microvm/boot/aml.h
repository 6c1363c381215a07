// ACPI's machine language, as much as a DSDT of devices needs (ACPI 6.4, chapter 20). Bytes in,
// bytes out.
//
//   Aml dsdt = aml::scope("\\_SB_", aml::device("V000", aml::name("_HID", aml::text("LNRO0005")) +
//   …));
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hob::microvm::aml {

using Bytes = std::string;  // of the encoded program; pieces are put together with +

// `path`: four characters (upper case, digits, '_'), with "\\" in front for the root.
Bytes scope(std::string_view path, const Bytes& terms);
Bytes device(std::string_view name, const Bytes& terms);
Bytes name(std::string_view name, const Bytes& value);
Bytes method(std::string_view name, int arguments, const Bytes& terms);

// If (Arg0 == value) { terms }
Bytes if_argument_is(uint64_t value, const Bytes& terms);
// `path`: two names, "\\_SB_.VGEN".
Bytes notify(std::string_view path, uint8_t value);

Bytes integer(uint64_t value);
Bytes text(std::string_view text);
Bytes eisa_id(std::string_view id);  // "PNP0501"
Bytes package(int elements, const Bytes& values);
Bytes resources(const Bytes& descriptors);

// Resource descriptors (6.4).
Bytes memory32(uint32_t base, uint32_t bytes);  // read and write
Bytes interrupt(uint32_t gsi);                  // edge, active high, exclusive
Bytes ports(uint16_t first, uint8_t count);

}  // namespace hob::microvm::aml
