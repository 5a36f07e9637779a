# The devices that the program brings along: a file of devices/ is a device.
file(GLOB device_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/devices/*.toml)
set(device_rows "")
foreach(path IN LISTS device_files)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${path})
  get_filename_component(name ${path} NAME_WE)
  file(READ ${path} toml)
  string(APPEND device_rows "      {\"${name}\", R\"toml(${toml})toml\"},\n")
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/bundled_devices.cpp @ONLY CONTENT
     "#include \"fit/bundled_devices.h\"\n\nnamespace shoehorn::fit {\n\nstd::span<const BundledDevice> bundled_devices() {\n  static constexpr BundledDevice kDevices[] = {\n@device_rows@  };\n  return kDevices;\n}\n\n}  // namespace shoehorn::fit\n")
target_sources(shoehorn_fit PRIVATE ${CMAKE_BINARY_DIR}/generated/bundled_devices.cpp)
