#include "fit/device.h"

#include <set>

#include "fit/bundled_devices.h"
#include "support/support.h"

namespace shoehorn::fit {
namespace {

TEST(Device, AllThatComeAlongAreRead) {
  std::set<std::string> names;
  for (const BundledDevice& bundled : bundled_devices()) {
    ASSERT_EXPECTED(const Device device, parse_device(bundled.toml, std::string(bundled.name)));
    EXPECT_EQ(device.name, bundled.name);
    names.insert(device.name);
  }
  for (const char* name : {"rpi4-4g", "rpi4-8g", "rpi5-8g", "rpi5-16g", "jetson-nano", "apple-m1", "apple-m2",
                           "ryzen-5600g", "nuc-i5-1240p", "generic"}) {
    EXPECT_TRUE(names.contains(name)) << name;
    EXPECT_TRUE(find_device(name).has_value());
  }
  EXPECT_EQ(known_devices().size(), names.size());
}

Device measured() {
  Device device;
  device.name = "a \"board\"";
  device.about = "C:\\ and more";
  device.isa = "avx2";
  device.cores = 4;
  device.ram = uint64_t{8} << 30;
  device.read = 12.5e9;
  device.macs = 300e9;
  device.storage = 90e6;
  device.steps = {2.5e-6, 0.25e-9, 0.5e-9};
  device.attention[64] = {50e9, 9e9, 3e-6};
  device.formats[quant::Type::Q4_K] = {11e9, 250e9};
  device.formats[quant::Type::F16] = {12e9, 60e9};
  return device;
}

TEST(Device, IsWrittenAsItIsRead) {
  const Device device = measured();
  ASSERT_EXPECTED(const Device again, parse_device(to_toml(device), "x"));
  EXPECT_EQ(to_toml(again), to_toml(device));
  EXPECT_EQ(again.name, device.name);
  EXPECT_EQ(again.about, device.about);
  EXPECT_EQ(again.ram, device.ram);
  EXPECT_TRUE(again.measured());
  EXPECT_DOUBLE_EQ(again.formats.at(quant::Type::Q4_K).macs, 250e9);
  EXPECT_DOUBLE_EQ(again.attention.at(64).call_s, 3e-6);
}

TEST(Device, WhatIsNoDeviceIsRefusedByKey) {
  const std::string good = to_toml(measured());
  const auto refused = [&](const std::string& text) {
    const auto device = parse_device(text, "board.toml");
    EXPECT_FALSE(device.has_value()) << text;
    return device ? std::string() : device.error().message;
  };
  EXPECT_NE(refused("name = 3").find("name"), std::string::npos);
  EXPECT_NE(refused("name = \"x").find("board.toml:1"), std::string::npos);
  EXPECT_NE(refused("speed = 3\n" + good).find("speed"), std::string::npos);
  EXPECT_NE(refused(good + "\n[format.Q9_Z]\nread_gbs = 1\ngmacs = 1\n").find("Q9_Z"), std::string::npos);
  EXPECT_NE(refused(good + "\n[attention.x]\nread_gbs = 1\ngmacs = 1\ncall_us = 1\n").find("attention.x"),
            std::string::npos);
  for (const auto& [from, to] : {std::pair{"cores = 4", "cores = 0"},
                                 {"cores = 4", "cores = \"four\""},
                                 {"usable = 0.8", "usable = nan"},
                                 {"read_gbs = 12.5", "read_gbs = -1"},
                                 {"ram_gib = 8", "ram_gib = 1e300"}}) {
    std::string text = good;
    text.replace(text.find(from), std::string(from).size(), to);
    EXPECT_NE(refused(text).find(std::string(from).substr(0, std::string(from).find(' '))), std::string::npos) << to;
  }
}

TEST(Device, UnknownNamesAreAnsweredWithTheKnown) {
  const auto device = find_device("rpi3");
  ASSERT_FALSE(device.has_value());
  EXPECT_NE(device.error().message.find("rpi4-4g"), std::string::npos);
}

}  // namespace
}  // namespace shoehorn::fit
