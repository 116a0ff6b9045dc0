/** Import it first: gateways of this test file have the native front end, whatever engine the run is about. */
process.env.SALLYPORT_TEST_ENGINE = 'native'
