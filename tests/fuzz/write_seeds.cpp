// write_seeds DIR: the seeds of every target as files DIR/TARGET/NAME. Prints the targets' names.
#include <cstdio>
#include <filesystem>

#include "fuzz/seeds.h"
#include "fuzz/target.h"
#include "support/support.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  for (const shoehorn::fuzz::Target& target : shoehorn::fuzz::targets()) {
    const std::string directory = std::string(argv[1]) + "/" + target.name;
    std::filesystem::create_directories(directory);
    for (const auto& [name, bytes] : shoehorn::fuzz::seeds(target.name))
      shoehorn::test::write_text(directory + "/" + name, bytes);
    std::printf("%s\n", target.name);
  }
}
