# Fails unless LIBRARY exports exactly the symbols that LIST names.
#   cmake -DNM=nm -DLIBRARY=libtiercel.so -DLIST=capi/symbols.txt -P check_symbols.cmake
execute_process(COMMAND ${NM} -D --defined-only --format=posix ${LIBRARY}
  OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" lines "${text}")
set(exported "")
foreach(line ${lines})
  string(REGEX MATCH "^[^ ]+" name "${line}")
  list(APPEND exported "${name}")
endforeach()
file(STRINGS ${LIST} listed)
set(added ${exported})
list(REMOVE_ITEM added ${listed})
set(lost ${listed})
list(REMOVE_ITEM lost ${exported})
if(added OR lost OR NOT listed)
  list(JOIN added " " added)
  list(JOIN lost " " lost)
  message(FATAL_ERROR "${LIBRARY} and ${LIST} differ.\n"
    "exported and not listed: ${added}\nlisted and not exported: ${lost}\n"
    "A symbol that was released must not go; a new one is added to the list.")
endif()
