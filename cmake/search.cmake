# The encoders' search per instruction set, each compiled with the flags of that set alone.
target_sources(shoehorn_quant PRIVATE src/quant/scalar/search.cpp)
# Wide vector values never cross a function boundary here, so the ABI remark does not apply.
target_compile_options(shoehorn_quant PRIVATE -Wno-psabi)

function(shoehorn_isa_search folder)
  set_source_files_properties(src/quant/${folder}/search.cpp PROPERTIES COMPILE_OPTIONS "${ARGN}")
  target_sources(shoehorn_quant PRIVATE src/quant/${folder}/search.cpp)
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT SHOEHORN_SCALAR_ONLY)
  target_compile_definitions(shoehorn_quant PRIVATE SHOEHORN_X86_SEARCH)
  shoehorn_isa_search(x86_avx2 -mavx2)
  # g++ 12 takes the operands that its AVX-512 intrinsics do not care about for uninitialized variables.
  shoehorn_isa_search(x86_avx512 -Wno-uninitialized -mavx2 -mavx512f -mavx512bw -mavx512cd -mavx512dq
                      -mavx512vl -mprefer-vector-width=512)
endif()
