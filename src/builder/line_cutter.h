// Cuts the bytes a step prints into lines for people: bounded in length and in all, without control
// characters. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace hob::builder {

class LineCutter {
 public:
  // bytes_max: of all lines; what comes after is counted, and told by one last line. Lines that
  // start with `always` are told nevertheless.
  LineCutter(uint64_t bytes_max, std::string always, std::function<void(std::string_view)> line);
  void feed(std::string_view bytes);
  // What is left without an end of line, and the count of what was left out.
  void finish();

 private:
  void emit();
  uint64_t bytes_max_;
  std::string always_;
  std::function<void(std::string_view)> line_;
  std::string partial_;
  bool returned_ = false;  // the last character was a carriage return
  uint64_t bytes_ = 0;
  uint64_t left_out_ = 0;
};

}  // namespace hob::builder
