const express = require('express');

const app = express();
app.get('/', (request, response) => response.send('hello from express\n'));
app.get('/version', (request, response) => response.send('1\n'));
app.get('/env', (request, response) => response.json({ PORT: process.env.PORT }));

const server = app.listen(process.env.PORT || 8080);
process.on('SIGTERM', () => server.close());
