# libtorch: Debian's libtorch-dev (1.13), or any other given by -DTORCH_ROOT=DIR (2.x; a build with CUDA brings --device cuda).
set(TORCH_ROOT "" CACHE PATH "Folder of an unpacked libtorch; empty: the system's")
find_path(TORCH_INCLUDE_DIR ATen/ATen.h HINTS ${TORCH_ROOT}/include)
find_library(TORCH_LIBRARY torch HINTS ${TORCH_ROOT}/lib)
find_library(TORCH_CPU_LIBRARY torch_cpu HINTS ${TORCH_ROOT}/lib)
find_library(C10_LIBRARY c10 HINTS ${TORCH_ROOT}/lib)
# libtorch's own threads are OpenMP's. An OpenBLAS with others fights with them for the cores: products are three times slower.
find_library(OPENBLAS_LIBRARY openblas PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp NO_DEFAULT_PATH)
find_library(OPENBLAS_LIBRARY openblas)
if(NOT (TORCH_INCLUDE_DIR AND TORCH_LIBRARY AND TORCH_CPU_LIBRARY AND C10_LIBRARY AND OPENBLAS_LIBRARY))
  message(STATUS "libtorch (libtorch-dev, libopenblas-openmp-dev) is not here: shoehorn-workshop (prune) is left out")
  return()
endif()

file(GLOB compress_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/compress/*.cpp ${CMAKE_SOURCE_DIR}/src/compress/*/*.cpp)
add_library(shoehorn_compress STATIC ${compress_sources})
target_include_directories(shoehorn_compress SYSTEM PUBLIC ${TORCH_INCLUDE_DIR} ${TORCH_INCLUDE_DIR}/torch/csrc/api/include)
target_link_libraries(shoehorn_compress PUBLIC shoehorn_convert ${TORCH_LIBRARY} ${TORCH_CPU_LIBRARY} ${C10_LIBRARY} ${OPENBLAS_LIBRARY})
cmake_path(GET OPENBLAS_LIBRARY PARENT_PATH openblas_dir)
# As RPATH, not RUNPATH: libtorch's libblas.so.3 and liblapack.so.3 are to come from there too.
target_link_options(shoehorn_compress INTERFACE -Wl,--disable-new-dtags,-rpath,${openblas_dir})
# Several processes (src/compress/peers.cpp): libtorch's Gloo, whose headers want gloo's own.
find_path(GLOO_INCLUDE_DIR gloo/algorithm.h HINTS ${TORCH_ROOT}/include)
if(GLOO_INCLUDE_DIR AND EXISTS ${TORCH_INCLUDE_DIR}/torch/csrc/distributed/c10d/ProcessGroupGloo.hpp)
  target_compile_definitions(shoehorn_compress PRIVATE SHOEHORN_GLOO USE_C10D_GLOO)
else()
  message(STATUS "gloo (libgloo-dev) is not here: prune and heal run in one process")
endif()
find_library(TORCH_CUDA_LIBRARY torch_cuda HINTS ${TORCH_ROOT}/lib)
if(TORCH_CUDA_LIBRARY)
  # Nothing refers to it by name: it registers itself when it is loaded.
  target_link_libraries(shoehorn_compress PUBLIC -Wl,--no-as-needed ${TORCH_CUDA_LIBRARY} -Wl,--as-needed)
endif()
