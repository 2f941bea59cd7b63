#!/usr/bin/env node
console.log("summit-edge");
