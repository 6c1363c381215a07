<?php
header('Content-Type: text/plain');
echo $_SERVER['REQUEST_URI'] === '/env' ? getenv('PORT') . "\n" : "hello from php\n";
