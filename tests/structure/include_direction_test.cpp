// The rooms under src/ may include one another in one direction only; the table below is the house plan.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "support/support.h"

namespace shoehorn::test {
namespace {

namespace fs = std::filesystem;

// Each room with the rooms right below it; what those may include, it may include too.
const std::map<std::string, std::vector<std::string>> kRoomsBelow = {
    {"base", {}},
    {"hub", {"base"}},
    {"hadamard", {"base"}},
    {"quant", {"base"}},
    {"kernels", {"quant", "hadamard"}},
    {"seal", {"base"}},
    {"io", {"quant", "seal"}},
    {"tokenizer", {"io"}},
    {"grammar", {"tokenizer"}},
    {"models", {"io", "hadamard"}},
    {"convert", {"kernels", "tokenizer", "models"}},
    {"engine", {"kernels", "grammar", "models"}},
    {"compress", {"convert"}},
    {"eval", {"engine"}},
    {"report", {"convert"}},
    {"serve", {"engine"}},
    {"fit", {"convert", "eval", "hub"}},
    {"cli", {"fit", "compress", "serve", "report", "hub"}},
};

// System headers that belong to some folders only, with the prefixes of the paths that may include them.
const std::vector<std::pair<std::regex, std::vector<std::string>>> kReservedHeaders = {
    {std::regex("torch/.*|ATen/.*|c10/.*"), {"compress/"}},
    {std::regex("[a-z0-9]*mmintrin.h|x86intrin.h"), {"kernels/x86_", "quant/lanes.h"}},
    {std::regex("arm_neon.h|arm_sve.h"), {"kernels/arm_"}},
};

std::set<std::string> allowed_rooms(const std::string& room) {
  std::set<std::string> allowed = {room};
  for (const std::string& below : kRoomsBelow.at(room)) allowed.merge(allowed_rooms(below));
  return allowed;
}

std::string room_of(const std::string& path) { return path.substr(0, path.find('/')); }

// One line for each include under `src` that breaks the plan, and for each file in a room that the plan lacks.
std::vector<std::string> violations(const fs::path& src) {
  const std::regex include_line(R"re(^\s*#\s*include\s*["<]([^">]+)[">])re");
  std::vector<std::string> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(src)) {
    if (!entry.is_regular_file()) continue;
    const std::string file = fs::relative(entry.path(), src).string();
    const std::string room = room_of(file);
    if (!kRoomsBelow.contains(room)) {
      found.push_back(file + " is in no known room");
      continue;
    }
    const std::set<std::string> allowed = allowed_rooms(room);
    std::ifstream stream(entry.path());
    for (std::string line; std::getline(stream, line);) {
      std::smatch match;
      if (!std::regex_search(line, match, include_line)) continue;
      const std::string header = match[1];
      if (header.starts_with(".") || fs::exists(entry.path().parent_path() / header)) {
        found.push_back(file + " includes " + header + " by a path that does not start at src/");
      } else if (fs::exists(src / header) || kRoomsBelow.contains(room_of(header))) {
        if (!allowed.contains(room_of(header))) found.push_back(file + " includes " + header);
      } else {
        for (const auto& [pattern, prefixes] : kReservedHeaders) {
          if (std::regex_match(header, pattern) &&
              std::ranges::none_of(prefixes, [&](const std::string& prefix) { return file.starts_with(prefix); })) {
            found.push_back(file + " includes " + header);
          }
        }
      }
    }
  }
  std::ranges::sort(found);
  return found;
}

std::vector<std::string> violations_of(const std::map<std::string, std::string>& files) {
  const fs::path src = temp_dir();
  for (const auto& [name, text] : files) {
    fs::create_directories((src / name).parent_path());
    write_text((src / name).string(), text);
  }
  return violations(src);
}

TEST(IncludeDirection, HoldsUnderSrc) {
  const fs::path src = fs::path(source_dir()) / "src";
  ASSERT_TRUE(fs::exists(src / "base/status.h"));
  for (const std::string& violation : violations(src)) ADD_FAILURE() << violation;
}

TEST(IncludeDirection, AllowsEveryRoomBelow) {
  EXPECT_EQ(violations_of({{"engine/a.cpp", "#include \"engine/a.h\"\n#include \"base/b.h\"\n#include <vector>\n"},
                           {"engine/a.h", "#include \"kernels/k.h\"\n#include \"models/m.h\"\n"},
                           {"cli/main.cpp", "#include \"compress/c.h\"\n#include \"serve/s.h\"\n"},
                           {"compress/heal/t.cpp", "#include <torch/torch.h>\n"},
                           {"kernels/x86_avx2/k.cpp", "#include <immintrin.h>\n"},
                           {"kernels/arm_neon/k.cpp", "#include <arm_neon.h>\n"}}),
            std::vector<std::string>{});
}

TEST(IncludeDirection, RefusesTheWayBack) {
  EXPECT_EQ(
      violations_of({{"base/a.h", "#pragma once\n  #  include \"quant/format.h\"\n"},
                     {"convert/a.cpp", "#include \"engine/session.h\"\n"},
                     {"compress/a.cpp", "#include <engine/session.h>\n"},
                     {"engine/session.h", ""},
                     {"tokenizer/a.cpp", "#include \"models/model.h\"\n"}}),
      (std::vector<std::string>{"base/a.h includes quant/format.h", "compress/a.cpp includes engine/session.h",
                                "convert/a.cpp includes engine/session.h", "tokenizer/a.cpp includes models/model.h"}));
}

TEST(IncludeDirection, RefusesRoomsThatThePlanLacks) {
  EXPECT_EQ(violations_of({{"attic/a.cpp", ""}, {"loose.cpp", ""}}),
            (std::vector<std::string>{"attic/a.cpp is in no known room", "loose.cpp is in no known room"}));
}

TEST(IncludeDirection, RefusesPathsThatHideTheRoom) {
  EXPECT_EQ(violations_of({{"base/a.cpp", "#include \"../io/gguf.h\"\n#include \"b.h\"\n"}, {"base/b.h", ""}}),
            (std::vector<std::string>{"base/a.cpp includes ../io/gguf.h by a path that does not start at src/",
                                      "base/a.cpp includes b.h by a path that does not start at src/"}));
}

TEST(IncludeDirection, KeepsReservedHeadersInTheirFolders) {
  EXPECT_EQ(
      violations_of({{"engine/a.cpp", "#include <immintrin.h>\n#include <arm_neon.h>\n"},
                     {"kernels/x86_avx2/a.cpp", "#include <arm_neon.h>\n"},
                     {"eval/a.cpp", "#include <torch/torch.h>\n"}}),
      (std::vector<std::string>{"engine/a.cpp includes arm_neon.h", "engine/a.cpp includes immintrin.h",
                                "eval/a.cpp includes torch/torch.h", "kernels/x86_avx2/a.cpp includes arm_neon.h"}));
}

}  // namespace
}  // namespace shoehorn::test
