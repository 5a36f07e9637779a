# Kernel files per instruction set, each compiled with the flags of that set alone. They throw nothing, so that they export nothing for it.
target_sources(shoehorn_kernels PRIVATE src/kernels/scalar/scalar.cpp)

# Sanitizers still see every load and store of the kernels, but not the scopes of their thousands of inlined temporaries: that alone
# takes the compiler ten times as long.
set(kernel_options -fno-exceptions)
if(SHOEHORN_SANITIZE MATCHES "address")
  list(APPEND kernel_options -fno-sanitize-address-use-after-scope --param=asan-instrumentation-with-call-threshold=0)
endif()
if(SHOEHORN_SANITIZE MATCHES "undefined")
  list(APPEND kernel_options -fno-sanitize=undefined)
endif()

function(shoehorn_kernel_set file)
  set_source_files_properties(src/kernels/${file} PROPERTIES COMPILE_OPTIONS "${kernel_options};${ARGN}")
  target_sources(shoehorn_kernels PRIVATE src/kernels/${file})
endfunction()

# Wide vector values never cross a function boundary here, so the ABI remark does not apply. No kernel looks at errno.
target_compile_options(shoehorn_kernels PRIVATE -Wno-psabi -Wno-uninitialized -Wno-unused-function -fno-math-errno)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT SHOEHORN_SCALAR_ONLY)
  target_compile_definitions(shoehorn_kernels PRIVATE SHOEHORN_X86_KERNELS)
  set(avx2 -mavx2 -mfma -mf16c -mbmi2)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl -mprefer-vector-width=512)
  shoehorn_kernel_set(x86_avx2/avx2.cpp ${avx2})
  shoehorn_kernel_set(x86_avx2/avxvnni.cpp ${avx2} -mavxvnni)
  shoehorn_kernel_set(x86_avx2/avx512vnni256.cpp ${avx512} -mavx512vnni -mprefer-vector-width=256)
  shoehorn_kernel_set(x86_avx512/avx512vnni.cpp ${avx512} -mavx512vnni)
  shoehorn_kernel_set(x86_avx512/avx512bf16.cpp ${avx512} -mavx512vnni -mavx512bf16)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64" AND NOT SHOEHORN_SCALAR_ONLY)
  target_compile_definitions(shoehorn_kernels PRIVATE SHOEHORN_ARM_KERNELS)
  shoehorn_kernel_set(arm_neon/neon.cpp -march=armv8-a -mtune=cortex-a72)
  shoehorn_kernel_set(arm_neon/dotprod.cpp -march=armv8.2-a+dotprod -mtune=cortex-a76)
  shoehorn_kernel_set(arm_neon/i8mm.cpp -march=armv8.2-a+dotprod+i8mm -mtune=neoverse-v1)
endif()
