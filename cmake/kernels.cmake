# Kernel files per instruction set, each compiled with the flags of that set alone.
file(GLOB scalar_kernels CONFIGURE_DEPENDS src/kernels/scalar/*.cpp)
target_sources(shoehorn_kernels PRIVATE ${scalar_kernels})

function(shoehorn_isa_kernels folder)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/${folder}/*.cpp)
  set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "${ARGN}")
  target_sources(shoehorn_kernels PRIVATE ${sources})
endfunction()

# Wide vector values never cross a function boundary here, so the ABI remark does not apply.
target_compile_options(shoehorn_kernels PRIVATE -Wno-psabi)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT SHOEHORN_SCALAR_ONLY)
  target_compile_definitions(shoehorn_kernels PRIVATE SHOEHORN_X86_KERNELS)
  shoehorn_isa_kernels(x86_avx2 -mavx2 -mfma -mf16c -mbmi2)
  shoehorn_isa_kernels(x86_avx512 -mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl
                       -mprefer-vector-width=512)
endif()
