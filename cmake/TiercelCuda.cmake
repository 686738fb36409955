# tiercel::cuda, where nvcc is found or demanded.
set(TIERCEL_HAVE_CUDA FALSE)
if(TIERCEL_CUDA STREQUAL "OFF")
  message(STATUS "tiercel: GPU tier off (TIERCEL_CUDA=OFF); tiercel::cuda is not built")
  return()
endif()

include(CheckLanguage)
if(NOT CMAKE_CUDA_ARCHITECTURES)
  # A100, H100 and B200; CMake adds PTX of each, which later cards compile for themselves.
  set(CMAKE_CUDA_ARCHITECTURES 80 90 100)
endif()
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  # The toolkit's own installer puts nvcc here and not on the PATH.
  find_program(TIERCEL_NVCC nvcc HINTS /usr/local/cuda/bin /opt/cuda/bin)
  if(TIERCEL_NVCC)
    set(ENV{CUDACXX} ${TIERCEL_NVCC})
  endif()
endif()
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(TIERCEL_CUDA STREQUAL "AUTO")
    message(STATUS "tiercel: no nvcc found; tiercel::cuda is not built. "
                   "Install the CUDA Toolkit or set CUDACXX to have it")
    return()
  endif()
  message(FATAL_ERROR "tiercel: TIERCEL_CUDA=ON, but no nvcc was found. "
                      "Install the CUDA Toolkit or set CUDACXX=/path/to/nvcc")
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(TIERCEL_HAVE_CUDA TRUE)
message(STATUS "tiercel: GPU tier with ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}; "
               "tiercel::cuda is built")
