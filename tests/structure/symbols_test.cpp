// What the object files refer to and export: the library neither prints nor ends the process, and a kernel file
// compiled for a newer CPU exports no inline function that the linker could pick for an older one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "support/support.h"

namespace shoehorn::test {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> nm_lines(const std::string& options, const fs::path& file) {
  const std::string command = std::string(SHOEHORN_NM) + " " + options + " '" + file.string() + "' 2>/dev/null";
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return {};
  std::string text;
  char buffer[4096];
  while (const size_t n = fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, n);
  EXPECT_EQ(pclose(pipe), 0) << command;
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// "member.o: symbol" for each undefined symbol of an archive that prints or ends the process.
std::vector<std::string> forbidden_uses(const fs::path& archive) {
  static const std::set<std::string> kForbidden = {"printf", "vprintf",   "puts",         "putchar",       "perror",
                                                   "stdout", "stderr",    "__printf_chk", "__vprintf_chk", "abort",
                                                   "exit",   "_exit",     "_Exit",        "quick_exit",    "raise",
                                                   "kill",   "_ZSt4cout", "_ZSt4cerr",    "_ZSt4clog"};
  // Ends programs that it started, and what fork left of this one in their place.
  static const std::set<std::string> kAllowed = {"subprocess.cpp.o: kill", "subprocess.cpp.o: _exit"};
  std::vector<std::string> found;
  std::string member;
  for (const std::string& line : nm_lines("--undefined-only", archive)) {
    if (line.ends_with(":")) member = line;
    const std::string symbol = line.substr(line.rfind(' ') + 1);
    const bool prints_with_fmt = symbol.starts_with("_ZN3fmt") && symbol.find("6vprint") != std::string::npos;
    if (kAllowed.contains(member + " " + symbol)) continue;
    if (kForbidden.contains(symbol) || prints_with_fmt) found.push_back(member + " " + symbol);
  }
  return found;
}

// The demangled symbols an object defines that another object's could replace or be replaced by (weak, unique), and
// strong ones outside our namespace.
std::vector<std::string> shared_definitions(const fs::path& object) {
  std::vector<std::string> found;
  for (const std::string& line : nm_lines("--demangle --defined-only --extern-only", object)) {
    std::istringstream fields(line);
    std::string address, type, name;
    fields >> address >> type >> std::ws;
    std::getline(fields, name);
    if (name.empty()) continue;
    if (std::string("WwVvu").find(type) != std::string::npos || !name.starts_with("shoehorn::")) found.push_back(name);
  }
  return found;
}

std::vector<fs::path> files_below(const fs::path& dir, const std::string& extension) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(dir)) {
    if (entry.is_regular_file() && entry.path().extension() == extension) found.push_back(entry.path());
  }
  return found;
}

// An object compiled for a particular CPU: from a folder x86_* or arm_* of src/kernels/ or src/quant/. The files right in
// the rooms use the baseline ISA.
bool is_isa_kernel(const fs::path& object) {
  const std::string path = object.string();
  const auto holds = [&](const char* folder) { return path.find(folder) != std::string::npos; };
  return (holds("/kernels/x86_") || holds("/kernels/arm_") || holds("/quant/x86_") || holds("/quant/arm_")) &&
         !holds("/tests/");
}

TEST(LibrarySymbols, NeitherPrintNorEndTheProcess) {
  size_t checked = 0;
  for (const fs::path& archive : files_below(SHOEHORN_BINARY_DIR, ".a")) {
    if (!archive.filename().string().starts_with("libshoehorn_")) continue;
    ++checked;
    for (const std::string& use : forbidden_uses(archive)) ADD_FAILURE() << archive.filename().string() << ' ' << use;
  }
  EXPECT_GT(checked, 0u) << "no libshoehorn_*.a under " << SHOEHORN_BINARY_DIR;
}

TEST(LibrarySymbols, AreSeenWhenALibraryPrintsOrEndsTheProcess) {
  std::vector<std::string> symbols;
  for (const std::string& use : forbidden_uses(SHOEHORN_BAD_SAMPLE)) symbols.push_back(use.substr(use.rfind(' ') + 1));
  std::ranges::sort(symbols);
  ASSERT_EQ(symbols.size(), 5u);
  EXPECT_TRUE(symbols[0].starts_with("_ZN3fmt")) << symbols[0];
  symbols.erase(symbols.begin());
  EXPECT_EQ(symbols, (std::vector<std::string>{"_ZSt4cout", "abort", "exit", "stderr"}));
}

TEST(KernelSymbols, AreNotShared) {
#ifndef __OPTIMIZE__
  GTEST_SKIP() << "without optimization every inline function is exported";
#endif
  size_t checked = 0;
  for (const fs::path& object : files_below(SHOEHORN_BINARY_DIR, ".o")) {
    if (!is_isa_kernel(object)) continue;
    ++checked;
    for (const std::string& name : shared_definitions(object)) ADD_FAILURE() << object.string() << " exports " << name;
  }
  if (!SHOEHORN_HAS_ISA_KERNELS) GTEST_SKIP() << "this build has no kernels for a particular instruction set";
  EXPECT_GT(checked, 0u) << "no kernel objects under " << SHOEHORN_BINARY_DIR;
}

TEST(KernelSymbols, AreSeenWhenShared) {
  EXPECT_EQ(shared_definitions(SHOEHORN_BAD_SAMPLE),
            (std::vector<std::string>{"outside()", "shoehorn::sample::pick(int)"}));
}

}  // namespace
}  // namespace shoehorn::test
