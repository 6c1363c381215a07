# The C++ of the AWS services that models/services.json lists: HOB_AWS_GENERATED, made by src/aws/generate.py.
set(generate /usr/bin/python3 -B ${CMAKE_SOURCE_DIR}/src/aws/generate.py --models ${CMAKE_SOURCE_DIR}/models
    --out ${CMAKE_BINARY_DIR}/generated/aws)
function(hob_generate_lines variable option)
  execute_process(COMMAND ${generate} ${option} OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
  string(STRIP "${text}" text)
  string(REPLACE "\n" ";" lines "${text}")
  set(${variable} ${lines} PARENT_SCOPE)
endfunction()
hob_generate_lines(HOB_AWS_GENERATED --list)
hob_generate_lines(inputs --inputs)
# Which files there will be depends on the models, so a change of those configures anew.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${inputs})
add_custom_command(OUTPUT ${HOB_AWS_GENERATED} COMMAND ${generate} DEPENDS ${inputs} VERBATIM
                   COMMENT "Generating AWS services from their models")
